import { PNG } from "pngjs";
import { expect, it } from "vitest";
import type { FrameTensor } from "../../../../protocol/src/index.ts";
import { noiseOf } from "../../../../sidecar/src/demo/index.ts";
import { latentLooks, sampleLatents } from "../../../../sidecar/src/pipeline/answers/latent-look.ts";

const inputs = [
  { name: "sample", dtype: "float", shape: ["batch", 4, "height", "width"] },
  { name: "timestep", dtype: "f32", shape: ["batch"] },
  { name: "encoder_hidden_states", dtype: "float", shape: ["batch", "tokens", 2048] },
  { name: "y", dtype: "float", shape: ["batch", 2816] },
  { name: "residual", dtype: "float", shape: ["batch", 320, "height", "width"], optional: true },
];

it.each(["f32", "f16", "bf16"] as const)("a drawing steps on an empty prompt in the engine's %s", async (precision) => {
  const seen: (readonly FrameTensor[])[] = [];
  const step = (tensors: readonly FrameTensor[]) => {
    seen.push(tensors.map((tensor) => ({ ...tensor, data: Uint8Array.from(tensor.data) })));
    return Promise.resolve({ tensors: [{ ...tensors[0], data: Uint8Array.from(tensors[0]?.data ?? []) }], ms: 2, waitedMs: 0 });
  };
  const lease = { origin: { spec: { precision }, table: { inputs } }, step } as unknown as Parameters<typeof sampleLatents>[0]["lease"];
  const noise = (count: number) => noiseOf(1, count);
  const drawn = await sampleLatents({ lease, look: latentLooks["sdxl"]!, noise, steps: 2, signal: new AbortController().signal });

  const size = precision === "f32" ? 4 : 2;
  expect(seen.map((tensors) => tensors.map(({ name, dtype, shape }) => [name, dtype, shape]))).toEqual(
    Array.from({ length: 2 }, () => [
      ["sample", precision, [1, 4, 64, 64]],
      ["timestep", "f32", [1]],
      ["encoder_hidden_states", precision, [1, 77, 2048]],
      ["y", precision, [1, 2816]],
    ]),
  );
  for (const [sample, timestep, words, y] of seen) {
    expect([sample, timestep, words, y].map((tensor) => tensor?.data.length)).toEqual([16_384 * size, 4, 157_696 * size, 2816 * size]);
    expect([words, y].every((tensor) => tensor?.data.every((byte) => byte === 0))).toBe(true);
  }
  expect(seen.map(([, timestep]) => Buffer.from(timestep?.data ?? []).readFloatLE(0))).toEqual([999, 500]);
  if (precision === "f32") expect(new Float32Array(seen[0]![0]!.data.buffer)).toEqual(noise(16_384));
  expect(Buffer.compare(seen[0]![0]!.data, seen[1]![0]!.data)).not.toBe(0);
  const { width, height } = PNG.sync.read(drawn.png);
  expect([width, height, drawn.width, drawn.height, drawn.stepsMs]).toEqual([512, 512, 512, 512, 4]);
});

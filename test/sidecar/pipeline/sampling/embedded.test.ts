// engine.sample on the embedded host: a whole sidecar, the demo's model, no Python.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import type { FrameTensor, WireParams } from "../../../../protocol/src/index.ts";
import { noiseOf, readDemoAssets } from "../../../../sidecar/src/demo/index.ts";
import { coloured, sampleLatents } from "../../../../sidecar/src/pipeline/answers/latent-look.ts";
import type { OpenLease } from "../../../../sidecar/src/pipeline/open-lease.ts";
import type { Port } from "../../../../sidecar/src/pipeline/resolve/graphs.ts";
import { drawn, firstLatents, generatorOf, runLoop, samplerOf, scheduleOf } from "../../../../sidecar/src/sampling/index.ts";
import { demoCheckpoint, demoLora, idOf, prepare, startBench, statusOf, until, type Bench, type Stack } from "../harness.ts";

const demoGraph = new URL("../../../../sidecar/graphs/demo/graph.json", import.meta.url);

// A step of the demo takes 10 ms; on a computer with other work, a hundred times that.
vi.setConfig({ testTimeout: 180_000 });

let bench: Bench;
let checkpoint: string;
let lora: string;
let conditioning: Float32Array;
beforeAll(async () => {
  bench = await startBench({
    flags: ["--host", "onnxruntime"],
    fill: (place) => {
      place("checkpoints", "demo.safetensors", demoCheckpoint);
      place("loras", "sevens.safetensors", demoLora("only-sevens"));
    },
  });
  checkpoint = await idOf(bench, "checkpoint", "demo.safetensors");
  lora = await idOf(bench, "adapter", "sevens.safetensors");
  ({ conditioning } = await readDemoAssets());
}, 120_000);
afterAll(() => bench.close());

const floats = (tensor: FrameTensor | undefined) => new Float32Array(Uint8Array.from(tensor?.data ?? []).buffer);
const bytes = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
const words = (): FrameTensor => ({ name: "positive.encoder_hidden_states", dtype: "f32", shape: [1, 4, 768], data: bytes(conditioning) });
const asked = (stack: readonly Stack[], more: Partial<WireParams<"engine.sample">> = {}): WireParams<"engine.sample"> => ({
  checkpoint,
  stack: [...stack],
  sampler: "ddim",
  schedule: { steps: 4, spacing: "trailing" },
  prediction: "v",
  seeds: [3, 4],
  size: [8, 8],
  ...more,
});
const sample = async (stack: readonly Stack[], more: Partial<WireParams<"engine.sample">> = {}) => {
  const { result, tensors } = await bench.client.call("engine.sample", asked(stack, more), { tensors: [words()] });
  return { result, latents: Buffer.from(tensors[0]?.data ?? []) };
};

it("equals the same loop over single steps, bit for bit, and says what it took", async () => {
  const stack = [{ adapter: lora, strength: 0.8 }];
  const { result, latents } = await sample(stack);
  expect(result).toMatchObject({ host: "onnxruntime", precision: "fp32", seeds: [3, 4], steps: 4, calls: 4 });
  expect(result.refits.count).toBe(1);
  expect(result.adapters[0]).toMatchObject({ failed: 0 });

  const { lease } = await prepare(bench, checkpoint, stack);
  const plan = scheduleOf({ steps: 4, spacing: "trailing" }, { sampler: "ddim", prediction: "v", time: 1000, strength: 1 });
  const generators = [3, 4].map(generatorOf);
  const both = {
    ...words(),
    name: "encoder_hidden_states",
    shape: [2, 4, 768],
    data: bytes(Float32Array.of(...conditioning, ...conditioning)),
  };
  const own = await runLoop({
    schedule: plan,
    sampler: samplerOf("ddim", "v", 0, 4),
    generators,
    first: firstLatents(plan, drawn(generators, 512), null),
    signal: new AbortController().signal,
    onStep: () => undefined,
    async predict(values, time) {
      const inputs = [
        { name: "sample", dtype: "f32" as const, shape: [2, 4, 8, 8], data: bytes(values) },
        { name: "timestep", dtype: "f32" as const, shape: [2], data: bytes(Float32Array.of(time, time)) },
        both,
      ];
      const { tensors } = await bench.client.call("engine.step", { lease }, { tensors: inputs });
      return new Float32Array(Uint8Array.from(tensors[0]?.data ?? []).buffer);
    },
  });
  await bench.client.call("engine.release", { lease });
  expect(latents.equals(Buffer.from(bytes(own)))).toBe(true);
  expect(new Set(own).size).toBeGreaterThan(400);
});

it("the picture to try is plain DDIM's, byte for byte, on the demo's engine", async () => {
  const { lease: id } = await prepare(bench, checkpoint, []);
  const seen: Float32Array[] = [];
  const step = async (tensors: readonly FrameTensor[]) => {
    seen.push(floats(tensors[0]));
    return { ms: 1, waitedMs: 0, ...(await bench.client.call("engine.step", { lease: id }, { tensors })) };
  };
  const { inputs } = JSON.parse(readFileSync(demoGraph, "utf8")) as { inputs: Port[] };
  const lease = { origin: { spec: { precision: "f32" }, table: { inputs } }, step } as unknown as OpenLease;
  const look = { autoencoder: "sd", side: 8 } as const;
  const signal = new AbortController().signal;
  const drawing = await sampleLatents({ lease, look, noise: (count) => noiseOf(5, count), steps: 6, signal });
  const sent = seen.splice(0);

  // Song et al. 2021, eq. 12 without fresh noise, from the trained betas.
  const shares = [1];
  for (let at = 0; at < 1000; at += 1)
    shares.push((shares[at] ?? 0) * (1 - (Math.sqrt(0.00085) + ((Math.sqrt(0.012) - Math.sqrt(0.00085)) * at) / 999) ** 2));
  const latents = noiseOf(5, 256);
  for (let index = 6; index > 0; index -= 1) {
    const [at, next] = [index, index - 1].map((left) => Math.round((999 * left) / 6)) as [number, number];
    const [share, shareNext] = [shares[at + 1] ?? 0, next === 0 ? 1 : (shares[next + 1] ?? 0)];
    const empty = { name: "encoder_hidden_states", dtype: "f32" as const, shape: [1, 77, 768], data: new Uint8Array(77 * 768 * 4) };
    const current = { name: "sample", dtype: "f32" as const, shape: [1, 4, 8, 8], data: bytes(latents) };
    const timestep = { name: "timestep", dtype: "f32" as const, shape: [1], data: bytes(Float32Array.of(at)) };
    const error = floats((await step([current, timestep, empty])).tensors[0]);
    latents.forEach((value, i) => {
      const clean = (value - Math.sqrt(1 - share) * (error[i] ?? 0)) / Math.sqrt(share);
      latents[i] = Math.sqrt(shareNext) * clean + Math.sqrt(1 - shareNext) * (error[i] ?? 0);
    });
  }
  await bench.client.call("engine.release", { lease: id });
  // Latents differ in their last bits: levels are signal over noise there, shares of the variance here.
  seen.forEach((own, index) => own.forEach((value, i) => expect(sent[index]?.[i]).toBeCloseTo(value, 4)));
  expect(drawing.png.equals(coloured(latents, look))).toBe(true);
});

it("a stack, another one and the first again give the first one's bits; a loop on present weights waits for no refit", async () => {
  const first = await sample([{ adapter: lora, strength: 1 }]);
  const none = await sample([]);
  const again = await sample([{ adapter: lora, strength: 1 }]);
  const same = await sample([{ adapter: "sevens.safetensors", strength: 1 }]);
  expect(first.latents.equals(again.latents)).toBe(true);
  expect(same.latents.equals(again.latents)).toBe(true);
  expect(first.latents.equals(none.latents)).toBe(false);
  expect([again.result.refits.count, same.result.refits.count]).toEqual([1, 0]);
});

it("counts each change of weights for one of the loops that came together", async () => {
  const refits = async () => (await statusOf(bench)).totals.refits;
  await sample([]);
  const before = await refits();
  const all = await Promise.all(Array.from({ length: 12 }, (_, index) => sample([{ adapter: lora, strength: 0.2 + 0.1 * (index % 3) }])));
  expect(all.reduce((sum, { result }) => sum + result.refits.count, 0)).toBe((await refits()) - before);
  expect(await refits()).toBeLessThan(before + 12);
});

it("takes an adapter by its content that nobody has named so far", async () => {
  bench.place("loras", "arrived.safetensors", demoLora("small"));
  await idOf(bench, "adapter", "arrived.safetensors");
  const sha256 = createHash("sha256")
    .update(readFileSync(demoLora("small")))
    .digest("hex");
  const { latents } = await sample([{ adapter: sha256, strength: 1 }]);
  expect(latents.equals((await sample([{ adapter: "arrived.safetensors", strength: 1 }])).latents)).toBe(true);
  expect(latents.equals((await sample([])).latents)).toBe(false);
  await expect(sample([{ adapter: "0".repeat(64), strength: 1 }])).rejects.toMatchObject({ code: "CATALOG_ENTRY_UNKNOWN" });
});

it("takes conditioning that was put before", async () => {
  const { latents } = await sample([]);
  await bench.client.call("conditioning.put", { tensors: [] } as never, { tensors: [{ ...words(), name: "k" }] });
  const { tensors } = await bench.client.call("engine.sample", asked([], { use: { "positive.encoder_hidden_states": "k" } }));
  expect(Buffer.from(tensors[0]?.data ?? []).equals(latents)).toBe(true);
});

it("a host that dies between two steps costs no picture", async () => {
  const more = { schedule: { steps: 30, spacing: "trailing" } } as const;
  const { latents } = await sample([], more);
  const crashes = bench.heard.filter(({ event }) => event.type === "host.crashed").length;
  let killed = false;
  const { tensors } = await bench.client.call("engine.sample", asked([], more), {
    tensors: [words()],
    onProgress: ({ stage, done }) => {
      if (stage !== "sample" || done < 10 || killed) return;
      killed = true;
      const children = execFileSync("ps", ["--ppid", String(bench.child.pid), "-o", "pid=,args="], { encoding: "utf8" });
      for (const line of children.split("\n")) if (line.includes("hosts/onnxruntime")) process.kill(Number.parseInt(line, 10), "SIGKILL");
    },
  });
  expect(killed).toBe(true);
  expect(bench.heard.filter(({ event }) => event.type === "host.crashed").length).toBeGreaterThan(crashes);
  expect(Buffer.from(tensors[0]?.data ?? []).equals(latents)).toBe(true);
});

it("tells what the model takes for the picture, and the last of that is the picture", async () => {
  const told: { done: number; total: number; preview: FrameTensor | undefined }[] = [];
  const steps = async () => (await statusOf(bench)).totals.steps;
  const before = await steps();
  const { tensors } = await bench.client.call("engine.sample", asked([], { sampler: "euler", previews: { kind: "latents", every: 2 } }), {
    tensors: [words()],
    onPreview: ({ done, total, tensors: [preview] }) => told.push({ done, total, preview }),
  });
  expect((await steps()) - before).toBe(4);
  // The last one may have been left out: the answer came at once.
  expect(told.length).toBeGreaterThan(0);
  for (const { done, total, preview } of told) {
    expect([2, 4]).toContain(done);
    expect([total, preview?.dtype, preview?.shape]).toEqual([4, "f32", [2, 4, 8, 8]]);
  }
  const last = told.find(({ done }) => done === 4);
  if (last !== undefined) expect(Buffer.from(last.preview?.data ?? [])).toEqual(Buffer.from(tensors[0]?.data ?? []));
});

it("a cancelled loop ends between two steps and leaves nothing behind", async () => {
  const leases = async () => (await statusOf(bench)).engines[0]?.leases;
  const before = await leases();
  const cancel = new AbortController();
  let seen = 0;
  await expect(
    bench.client.call("engine.sample", asked([], { schedule: { steps: 500, spacing: "trailing" } }), {
      tensors: [words()],
      signal: cancel.signal,
      onProgress: ({ stage, done }) => {
        if (stage !== "sample") return;
        seen = done;
        cancel.abort();
      },
    }),
  ).rejects.toMatchObject({ code: "WIRE_CANCELLED" });
  expect(seen).toBeLessThan(500);
  // The answer does not wait for the step under way; the engine is given back right after it.
  await until("the loop's end", async () => (await leases()) === before);
  await sample([]);
});

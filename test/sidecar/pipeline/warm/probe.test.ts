import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { createLastUsed, readLastUsed } from "../../../../sidecar/src/pipeline/warm/last-used.ts";
import { probeInputs, probeSteps, type LastStep, type StepShapes } from "../../../../sidecar/src/pipeline/warm/probe.ts";

const ports = [
  { name: "sample", dtype: "float", shape: ["batch", 4, "height", "width"] },
  { name: "timestep", dtype: "f32", shape: ["batch"] },
  { name: "encoder_hidden_states", dtype: "float", shape: ["batch", "tokens", 768] },
];
const shapes = (inputs: ReturnType<typeof probeInputs>) => Object.fromEntries(inputs.map(({ name, shape }) => [name, shape]));

it("without a step before: the smallest that every UNet takes, in the engine's dtype", () => {
  const inputs = probeInputs(ports, "f16", null);
  expect(shapes(inputs)).toEqual({ sample: [1, 4, 16, 16], timestep: [1], encoder_hidden_states: [1, 77, 768] });
  expect(inputs.map(({ dtype, data }) => [dtype, data.byteLength])).toEqual([
    ["f16", 2048],
    ["f32", 4],
    ["f16", 77 * 768 * 2],
  ]);
});

it("after one: its sizes, where they fit the graph", () => {
  const last = { sample: [2, 4, 64, 96], timestep: [2], encoder_hidden_states: [2, 154, 1024] };
  expect(shapes(probeInputs(ports, "f32", last))).toEqual({ sample: [2, 4, 64, 96], timestep: [2], encoder_hidden_states: [1, 77, 768] });
});

const gigabyte = 2 ** 30;
const usual: LastStep = { shapes: { sample: [2, 4, 64, 64] }, ms: 300, bytes: 3 * gigabyte };

/** Probes steps that take these times, the last one for ever; answers the sizes they were made in. */
async function probed(
  last: LastStep | null,
  times: readonly number[],
  { wantedAfter = Infinity, freeBytes = 8 * gigabyte } = {},
): Promise<(StepShapes | null)[]> {
  const sizes: (StepShapes | null)[] = [];
  let now = 0;
  const count = await probeSteps(last, {
    step: async (size) => {
      now += times[Math.min(sizes.length, times.length - 1)] ?? 0;
      sizes.push(size);
    },
    wanted: () => sizes.length >= wantedAfter,
    memory: async () => ({ takenBytes: gigabyte, freeBytes }),
    nowMs: () => now,
  });
  expect(sizes).toHaveLength(count);
  return sizes;
}

it("steps at the size last used until one is no faster than those before, and not for ever", async () => {
  expect(await probed(usual, [500, 300])).toEqual([usual.shapes, usual.shapes, usual.shapes]);
  expect(await probed(usual, [300, 300])).toHaveLength(2);
  expect(await probed(usual, [900, 800, 700, 600, 500, 400, 300, 200])).toHaveLength(6);
});

it("never used, too long, too large for the memory that is free, or never measured: two of the smallest", async () => {
  for (const last of [null, { ...usual, ms: 5_001 }, { ...usual, bytes: 6 * gigabyte }, { ...usual, bytes: null }])
    expect(await probed(last, [500, 300, 100])).toEqual([null, null]);
  expect(await probed(usual, [500, 300], { freeBytes: 3 * gigabyte })).toEqual([null, null]);
});

it("ends with the step that is under way when somebody wants the engine, and after its time", async () => {
  expect(await probed(usual, [500, 300], { wantedAfter: 1 })).toHaveLength(1);
  expect(await probed(usual, [12_000, 9_000])).toHaveLength(1);
});

it("the size, the fastest time and the memory of the last step outlive the sidecar", async () => {
  const folder = await mkdtemp(join(tmpdir(), "refit-last-used-"));
  const path = join(folder, "last-used.json");
  const first = createLastUsed(path);
  expect(first.noteStep("s", usual.shapes, 900)).toBe(true);
  first.noteMemory("s", 5);
  expect(first.noteStep("s", usual.shapes, 300)).toBe(false);
  expect(first.noteStep("s", usual.shapes, 400)).toBe(false);
  await first.flush();
  const second = createLastUsed(path);
  await second.load();
  expect(second.step("s")).toEqual({ shapes: usual.shapes, ms: 300, bytes: 5 });
  expect(second.noteStep("s", { sample: [1, 4, 16, 16] }, 50)).toBe(true);
  expect(second.step("s")).toEqual({ shapes: { sample: [1, 4, 16, 16] }, ms: 50, bytes: null });
  await second.flush();
  const whole = await readFile(path, "utf8");
  expect((await readLastUsed(path))?.steps).toEqual({ s: { shapes: { sample: [1, 4, 16, 16] }, ms: 50, bytes: null } });
  await writeFile(path, whole.replace('"ms":50', '"ms":51'));
  expect(await readLastUsed(path)).toBeNull();
  // As 0.1.0 wrote it.
  await writeFile(path, whole.slice(whole.indexOf("\n") + 1));
  expect((await readLastUsed(path))?.steps["s"]?.ms).toBe(50);
  await rm(folder, { recursive: true });
});

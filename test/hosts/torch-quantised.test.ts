// The torch host with quantised weights: the shipped demo model stepped, refitted and brought back; parameters alone; what is reported and refused.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { startHost, type Host } from "../../sidecar/src/host/index.ts";
import { planRefit } from "../../sidecar/src/plan/index.ts";
import type { Wanted } from "../../sidecar/src/refit/index.ts";
import { native } from "../../native/ts/index.ts";
import type { FrameTensor } from "../../protocol/src/index.ts";
import { testPython } from "../../tools/python-env.mjs";
import { demoGraph, demoStacks, demoStates, goldenSteps, readSteps, relativeError, type NamedStack } from "./demo-model.ts";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const root = fileURLToPath(new URL("../../", import.meta.url));
// Output error of a step against PyTorch's f32: what these formats cost on the small model, with room.
const formats = [
  { weightDtype: "fp8", worst: 0.1 },
  { weightDtype: "int8", worst: 0.1 },
  { weightDtype: "nvfp4", worst: 0.4 },
] as const;

async function floats({ data }: FrameTensor): Promise<Float32Array> {
  const out = new Uint8Array(data.byteLength * 2);
  await native.convert(Buffer.from(data), "BF16", out, "F32", data.byteLength / 2);
  return new Float32Array(out.buffer);
}

describe.each(formats)("torch host, $weightDtype", ({ weightDtype, worst }) => {
  let host: Host;
  let folder = "";
  let states: (stack: NamedStack) => Wanted;
  let generation = 1;
  const { inputs, outputs } = readSteps(goldenSteps);

  beforeAll(async () => {
    host = await startHost({
      kind: "torch",
      command: testPython(root),
      args: ["-m", "refit_host", "--kind", "torch", "--device", "cpu"],
      env: { PYTHONPATH: fileURLToPath(new URL("../../sidecar/hosts/python", import.meta.url)), OMP_NUM_THREADS: "1" },
    });
    folder = await mkdtemp(join(tmpdir(), "refit-quantised-"));
    states = await demoStates(folder);
  });
  afterAll(async () => {
    await host.close();
    await rm(folder, { recursive: true, force: true });
  });

  const step = async (): Promise<{ bytes: Buffer; error: (expected: Float32Array | undefined) => Promise<number> }> => {
    const { tensors } = await host.call("step", { engine: "demo", generation }, { tensors: inputs });
    const output = tensors[0];
    if (output === undefined) throw new TypeError("the step gave no tensor");
    expect(output).toMatchObject({ name: "out_sample", dtype: "bf16" });
    return {
      bytes: Buffer.from(output.data),
      error: async (expected) => relativeError(await floats(output), expected ?? new Float32Array()),
    };
  };
  const refit = async (from: NamedStack, to: NamedStack): Promise<Readonly<Record<string, string>>> => {
    const [before, after] = [states(from), states(to)];
    const touches = new Map([...before.adapters, ...after.adapters].map((adapter) => [adapter.file.sha256, adapter.touches]));
    const result = planRefit(before.desired, after.desired, touches, { names: Object.keys(after.checkpoint.parameters), fixed: new Set() });
    if (result.kind !== "refit") throw new TypeError(`expected a refit, the plan is ${result.kind}`);
    const prepared = await host.call("prepare", {
      engine: "demo",
      generation,
      plan: result.plan,
      checkpoint: after.checkpoint,
      stack: after.adapters.map(({ file }) => file),
      verify: true,
    });
    generation = (await host.call("commit", { engine: "demo", token: prepared.token })).generation;
    return prepared.sha256 ?? {};
  };
  const weights = async (): Promise<Readonly<Record<string, string>>> => (await host.call("checksums", { engine: "demo" })).sha256;

  it("is offered, loads, and says what it costs", async () => {
    expect(host.about.precisions).toContain(weightDtype);
    const { checkpoint } = states([]);
    const loaded = await host.call("load", {
      engine: "demo",
      graph: { folder: demoGraph, variant: "fp16" },
      weightDtype,
      checkpoint,
      stack: [],
    });
    expect(loaded.quantised).toMatchObject({ format: weightDtype, way: "dequantise" });
    expect(loaded.quantised?.layers).toBeGreaterThan(5);
    expect(loaded.quantised?.whole.join()).toContain("time_embed");
    expect(loaded.quantised?.weightError).toBeGreaterThan(0.001);
    expect(loaded.quantised?.outputError ?? Infinity).toBeLessThan(worst);
    const { engines } = await host.call("status", {});
    expect(engines[0]?.quantised).toEqual(loaded.quantised);
    expect(engines[0]?.bytes).toBe(loaded.bytes);
    const whole = await host.call("load", {
      engine: "whole",
      graph: { folder: demoGraph, variant: "fp16" },
      weightDtype: "bf16",
      checkpoint,
      stack: [],
    });
    expect(loaded.bytes).toBeLessThan(whole.bytes);
    await host.call("unload", { engine: "whole" });
  });

  it("steps near PyTorch's own f32 outputs on every stack; A → B → A → none gives outputs and weights bit for bit", async () => {
    const base = await weights();
    const first = await step();
    expect(await first.error(outputs[0])).toBeLessThan(worst);
    const seen = [first.bytes];
    for (const [index, stack] of demoStacks.entries()) {
      if (index === 0) continue;
      const promised = await refit(demoStacks[index - 1] ?? [], stack);
      const held = await weights();
      for (const [name, sha256] of Object.entries(promised)) expect(held[name]).toBe(sha256);
      const { engines } = await host.call("status", {});
      const losses = engines[0]?.losses ?? [];
      expect(losses.map(({ adapter }) => adapter)).toEqual(states(stack).adapters.map(({ file }) => file.sha256));
      // The file is no quantised one: what rounding moves, it moves as often up as down.
      for (const { projection, branched } of losses)
        expect([Math.abs(projection - 1) < (weightDtype === "nvfp4" ? 1 : 0.25), branched]).toEqual([true, 0]);
      const output = await step();
      expect(await output.error(outputs[index])).toBeLessThan(worst);
      seen.push(output.bytes);
    }
    expect(new Set(seen.map((bytes) => bytes.toString("base64"))).size).toBe(demoStacks.length);
    await refit(demoStacks.at(-1) ?? [], demoStacks[1] ?? []);
    expect(Buffer.compare((await step()).bytes, seen[1] ?? Buffer.alloc(0))).toBe(0);
    await refit(demoStacks[1] ?? [], []);
    expect(Buffer.compare((await step()).bytes, first.bytes)).toBe(0);
    expect(await weights()).toEqual(base);
  });

  it("holds parameters without a graph, those that the format cannot hold whole", async () => {
    const { checkpoint } = states([]);
    const names = Object.keys(checkpoint.parameters).slice(0, 40);
    const parameters = Object.fromEntries(names.map((name) => [name, checkpoint.parameters[name]?.shape ?? []]));
    await host.call("load", { engine: "plain", graph: null, parameters, weightDtype, checkpoint, stack: [] });
    const { tensors } = await host.call("readBack", { engine: "plain", parameters: names });
    expect(tensors.map(({ name, dtype }) => [name, dtype])).toEqual(names.map((name) => [name, "bf16"]));
  });
});

import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import type { CheckpointSource } from "../../../sidecar/src/catalog/types.ts";
import type { Host, HostCommand } from "../../../sidecar/src/host/index.ts";
import { leaveHost, sharedHost } from "./shared-host.ts";
import { planRefit } from "../../../sidecar/src/plan/index.ts";
import { readSteps, relativeError } from "../demo-model.ts";
import {
  bytesOf,
  floatsOf,
  noise,
  randomValues,
  stackFiles,
  stackItems,
  writeAdapter,
  writeCheckpoint,
  type Adapter,
  type Values,
} from "../fixtures.ts";

// Made, with diffusers' outputs, by test/python/parity/fused.py, which makes the same weights.
const folder = fileURLToPath(new URL("../golden/fused", import.meta.url));
const shapes = z.record(z.string(), z.array(z.number())).parse(JSON.parse(readFileSync(join(folder, "parameters.json"), "utf8")));
const touched = [
  "double_blocks.0.img_attn.qkv.weight",
  "final_layer.adaLN_modulation.1.weight",
  "single_blocks.1.linear1.weight",
  "txt_in.weight",
];
const rank = 2;

function weights(name: string, index: number): Values {
  const shape = shapes[name] ?? [];
  const next = noise(1000 + index);
  const product = (sizes: readonly number[]): number => sizes.reduce((all, size) => all * size, 1);
  const divisor = 2 ** Math.round(Math.log2(shape.length > 1 ? product(shape.slice(1)) : 64) / 2);
  return { shape, data: Float32Array.from({ length: product(shape) }, () => next() / divisor + (name.endsWith(".scale") ? 1 : 0)) };
}

/** A network whose graph splits fused parameters and exchanges halves of one: each row must land where the refit map says. */
export function fused(command: HostCommand, tolerance: number): void {
  describe("fused and exchanged rows", () => {
    let host: Host;
    let files = "";
    let checkpoint: CheckpointSource;
    let adapter: Adapter;
    const { inputs, outputs } = readSteps(join(folder, "steps.safetensors"));
    beforeAll(async () => {
      host = await sharedHost(command);
      files = await mkdtemp(join(tmpdir(), "refit-fused-"));
      const names = Object.keys(shapes).sort();
      checkpoint = await writeCheckpoint(
        join(files, "flux.safetensors"),
        Object.fromEntries(names.map((name, index) => [name, weights(name, index)])),
      );
      adapter = await writeAdapter(
        files,
        "fused",
        touched.map((parameter, index) => {
          const [rows = 0, cols = 0] = shapes[parameter] ?? [];
          return { parameter, up: randomValues([rows, rank], 2 * index + 1), down: randomValues([rank, cols], 2 * index + 2), scale: 0.25 };
        }),
      );
    });
    afterAll(async () => {
      await leaveHost(host);
      await rm(files, { recursive: true, force: true });
    });
    const load = (engine: string, strength: number) =>
      host.call("load", {
        engine,
        graph: { folder, variant: "fp32" },
        weightDtype: "f32",
        checkpoint,
        stack: strength === 0 ? [] : stackFiles([{ adapter, strength }]),
      });
    const step = async (engine: string, generation: number, tensors = inputs): Promise<Uint8Array> =>
      (await host.call("step", { engine, generation }, { tensors })).tensors[0]?.data ?? new Uint8Array();
    const refit = async (engine: string, from: number, to: number, generation: number): Promise<number> => {
      const stack = (strength: number) => (strength === 0 ? [] : [{ adapter, strength }]);
      const state = (strength: number) => ({ checkpoint: "base", stack: stackItems(stack(strength)) });
      const touches = new Map([[adapter.sha256, { parameters: touched, reshapes: [] }]]);
      const result = planRefit(state(from), state(to), touches, { names: Object.keys(shapes), fixed: new Set() });
      if (result.kind !== "refit") throw new TypeError(`expected a refit, the plan is ${result.kind}`);
      const { token } = await host.call("prepare", { engine, generation, plan: result.plan, checkpoint, stack: stackFiles(stack(to)) });
      return (await host.call("commit", { engine, token })).generation;
    };

    it("the base, a refit and a load with the stack equal diffusers; back to base is bit-identical", async () => {
      await load("refitted", 0);
      const base = await step("refitted", 1);
      expect(relativeError(floatsOf(base), outputs[0] ?? new Float32Array())).toBeLessThan(tolerance);
      expect(await refit("refitted", 0, 1, 1)).toBe(2);
      const merged = await step("refitted", 2);
      expect(relativeError(floatsOf(merged), outputs[1] ?? new Float32Array())).toBeLessThan(tolerance);
      await load("loaded", 1);
      expect(Buffer.compare(await step("loaded", 1), merged)).toBe(0);
      await refit("refitted", 1, 0, 2);
      expect(Buffer.compare(await step("refitted", 3), base)).toBe(0);
    });

    it("every step takes its own inputs, also when their sizes are those of the step before", async () => {
      const halved = inputs.map((tensor) =>
        tensor.name === "sample" ? { ...tensor, data: bytesOf(floatsOf(tensor.data).map((value) => value / 2)) } : tensor,
      );
      await load("inputs", 0);
      const first = await step("inputs", 1);
      const other = await step("inputs", 1, halved);
      expect(relativeError(floatsOf(other), floatsOf(first))).toBeGreaterThan(0.01);
      expect(Buffer.compare(await step("inputs", 1), first)).toBe(0);
    });
  });
}

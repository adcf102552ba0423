import { rename, rm, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { HostCommand } from "../../../sidecar/src/host/index.ts";
import { writeSafetensors } from "../../../native/ts/index.ts";
import {
  deltaHeader,
  fullPlan,
  hashOf,
  randomValues,
  sourceOf,
  stackFiles,
  writeAdapter,
  writeCheckpoint,
  writeDelta,
  type Adapter,
  type Values,
} from "../fixtures.ts";
import { model, openBench, type Bench } from "./bench.ts";

/** Every failure is typed, happens in prepare, and leaves the old weights serving. */
export function failures(command: HostCommand): void {
  describe("failures", () => {
    let bench: Bench;
    let serial = 0;
    let engine = "";
    let generation = 1;
    let before: Readonly<Record<string, string>> = {};
    beforeAll(async () => void (bench = await openBench(command)));
    afterAll(() => bench.close());
    beforeEach(async () => {
      engine = `failure-${++serial}`;
      generation = 1;
      await bench.load(engine, [{ adapter: bench.c, strength: 1 }]);
      before = await bench.checksums(engine);
    });

    const attempt = (adapter: Adapter, changes: Partial<{ checkpoint: Bench["checkpoint"]; writes: string[]; strength: number }> = {}) => {
      const stack = [{ adapter, strength: changes.strength ?? 1 }];
      const plan = fullPlan(model, stack);
      return bench.host.call("prepare", {
        engine,
        generation,
        plan:
          changes.writes === undefined
            ? plan
            : {
                ...plan,
                full: false,
                from: { checkpoint: "base", stack: [] },
                writes: changes.writes.map((parameter) => ({ parameter, reason: "touched" as const })),
              },
        checkpoint: changes.checkpoint ?? bench.checkpoint,
        stack: stackFiles(stack),
      });
    };
    /** The promise fails with the code, and afterwards the engine is what it was and can still be refitted. */
    const expectRefused = async (action: Promise<unknown>, code: string): Promise<void> => {
      await expect(action).rejects.toMatchObject({ code });
      expect(await bench.checksums(engine)).toEqual(before);
      generation = await bench.refit(engine, [{ adapter: bench.c, strength: 1 }], [{ adapter: bench.a, strength: 1 }], generation);
      generation = await bench.refit(engine, [{ adapter: bench.a, strength: 1 }], [{ adapter: bench.c, strength: 1 }], generation);
      expect(await bench.checksums(engine)).toEqual(before);
    };
    const odd = (name: string, parameter: string, up: Values, down: Values) =>
      writeAdapter(bench.folder, name, [{ parameter, up, down, scale: 1 }]);
    const copy = (name: string) => writeCheckpoint(join(bench.folder, `${name}.safetensors`), model);
    const filled = (shape: number[], value: number): Values => ({
      shape,
      data: new Float32Array(shape.reduce((product, dimension) => product * dimension, 1)).fill(value),
    });

    it("HOST_FILE_MISSING for a checkpoint that is gone", async () => {
      const checkpoint = await copy("gone");
      await rm(join(bench.folder, "gone.safetensors"));
      await expectRefused(attempt(bench.a, { checkpoint }), "HOST_FILE_MISSING");
    });
    it("HOST_FILE_MISSING for a delta that is gone", async () => {
      const adapter = await odd("gone-delta", "out.weight", randomValues([4, 2], 1), randomValues([2, 16], 2));
      await rm(adapter.delta);
      await expectRefused(attempt(adapter), "HOST_FILE_MISSING");
    });
    it("HOST_FILE_CHANGED for a checkpoint that was touched since it was catalogued", async () => {
      const checkpoint = await copy("touched");
      await utimes(join(bench.folder, "touched.safetensors"), new Date(1), new Date(1));
      await expectRefused(attempt(bench.a, { checkpoint }), "HOST_FILE_CHANGED");
    });
    it("HOST_FILE_CHANGED for a checkpoint that was replaced by another of the same size", async () => {
      const checkpoint = await copy("replaced");
      await copy("replacement");
      await rename(join(bench.folder, "replacement.safetensors"), join(bench.folder, "replaced.safetensors"));
      await expectRefused(attempt(bench.a, { checkpoint }), "HOST_FILE_CHANGED");
    });
    it("HOST_FILE_CHANGED or HOST_FILE_INVALID for a checkpoint cut short", async () => {
      const checkpoint = await copy("cut");
      await truncate(join(bench.folder, "cut.safetensors"), 3000);
      const failure: unknown = await attempt(bench.a, { checkpoint }).catch((error: unknown) => error);
      expect(["HOST_FILE_CHANGED", "HOST_FILE_INVALID"]).toContain((failure as { code: string }).code);
      await expectRefused(attempt(bench.a, { checkpoint }), (failure as { code: string }).code);
    });
    it("HOST_FILE_INVALID for a delta that is not a tensor file", async () => {
      const delta = join(bench.folder, "text.delta");
      await writeFile(delta, "this is not a tensor file, whatever its name says");
      await expectRefused(attempt({ sha256: hashOf("text"), delta, terms: [] }), "HOST_FILE_INVALID");
    });
    it.each([
      ["no JSON", "{"],
      ["another format version", { ...deltaHeader(hashOf("odd-delta"), []), formatVersion: 2 }],
      [
        "an unknown kind of term",
        deltaHeader(hashOf("odd-delta"), [{ kind: "magic", target: { parameter: "out.weight" }, sourceKeys: [] }]),
      ],
      [
        "a factor that the file lacks",
        deltaHeader(hashOf("odd-delta"), [
          { kind: "lowRank", target: { parameter: "out.weight" }, scale: 1, up: "nowhere", down: "x", sourceKeys: [] },
        ]),
      ],
      ["another adapter's hash", deltaHeader(hashOf("somebody else"), [])],
    ])("HOST_DELTA_INVALID for delta metadata with %s", async (_, metadata) => {
      const delta = join(bench.folder, "odd.delta");
      await writeDelta(delta, metadata, { x: filled([2, 16], 1) });
      await expectRefused(attempt({ sha256: hashOf("odd-delta"), delta, terms: [] }), "HOST_DELTA_INVALID");
    });
    it("HOST_DELTA_INVALID for a factor whose bytes are not the ones written, and for a delta without checksums", async () => {
      const delta = join(bench.folder, "flipped.delta");
      const header = deltaHeader(hashOf("flipped"), [
        { kind: "lowRank", target: { parameter: "out.weight" }, scale: 1, up: "u", down: "d", sourceKeys: [] },
      ]);
      await writeDelta(delta, header, { u: filled([4, 1], 1), d: filled([1, 16], 1) }, { d: filled([1, 16], 2) });
      await expectRefused(attempt({ sha256: hashOf("flipped"), delta, terms: [] }), "HOST_DELTA_INVALID");
      await writeSafetensors(delta, [{ name: "u", dtype: "F32", shape: [1], data: new Uint8Array(4) }], {
        refit_delta: JSON.stringify(header),
      });
      await expectRefused(attempt({ sha256: hashOf("flipped"), delta, terms: [] }), "HOST_DELTA_INVALID");
    });
    it("HOST_NON_FINITE for a factor with a NaN, and for one with an infinity", async () => {
      const bad = filled([4, 2], 1);
      bad.data[5] = NaN;
      await expectRefused(attempt(await odd("nan", "out.weight", bad, filled([2, 16], 1))), "HOST_NON_FINITE");
      bad.data[5] = -Infinity;
      await expectRefused(attempt(await odd("inf", "out.weight", bad, filled([2, 16], 0))), "HOST_NON_FINITE");
    });
    it("HOST_NON_FINITE for finite factors whose product is not", async () => {
      await expectRefused(attempt(await odd("huge", "out.weight", filled([4, 1], 1e30), filled([1, 16], 1e30))), "HOST_NON_FINITE");
    });
    it("HOST_NON_FINITE names every parameter that overflows, with how many of its values", async () => {
      const up = filled([4, 1], 0);
      up.data[1] = 1e30;
      const wide = await odd("wide", "out.weight", up, filled([1, 16], 1e30));
      const error = await attempt(wide).then(
        () => null,
        (caught: unknown) => caught,
      );
      expect(error).toMatchObject({
        code: "HOST_NON_FINITE",
        message: expect.stringContaining("out.weight (16 values)") as string,
        evidence: { overflowed: [{ parameter: "out.weight", values: 16 }] },
      });
    });
    it("HOST_NON_FINITE for a checkpoint with a NaN in it", async () => {
      const data = Float32Array.from(model["out.weight"]?.data ?? []);
      data[3] = NaN;
      const checkpoint = await writeCheckpoint(join(bench.folder, "sick.safetensors"), {
        ...model,
        "out.weight": { shape: [4, 16], data },
      });
      await expectRefused(attempt(bench.a, { checkpoint }), "HOST_NON_FINITE");
    });
    it("HOST_SHAPE_MISMATCH for factors of another shape", async () => {
      await expectRefused(
        attempt(await odd("shape", "out.weight", randomValues([5, 2], 1), randomValues([2, 16], 2))),
        "HOST_SHAPE_MISMATCH",
      );
    });
    it("HOST_SHAPE_MISMATCH for a checkpoint of another shape", async () => {
      const checkpoint = await writeCheckpoint(join(bench.folder, "wide.safetensors"), {
        ...model,
        "out.weight": randomValues([4, 17], 1),
      });
      await expectRefused(attempt(bench.a, { checkpoint }), "HOST_SHAPE_MISMATCH");
    });
    it("HOST_NOT_REFITTABLE for a term that gives a parameter another shape", async () => {
      const delta = join(bench.folder, "pad.delta");
      const term = { kind: "lowRank", target: { parameter: "out.weight" }, scale: 1, up: "u", down: "d", padTo: [4, 20], sourceKeys: [] };
      await writeDelta(delta, deltaHeader(hashOf("pad"), [term]), { u: filled([4, 1], 1), d: filled([1, 20], 1) });
      await expectRefused(attempt({ sha256: hashOf("pad"), delta, terms: [] }), "HOST_NOT_REFITTABLE");
    });
    it("HOST_PARAMETER_UNKNOWN for an adapter, a plan, a checkpoint and a call that name one", async () => {
      await expectRefused(
        attempt(await odd("alien", "double_blocks.0.weight", randomValues([4, 2], 1), randomValues([2, 16], 2))),
        "HOST_PARAMETER_UNKNOWN",
      );
      await expectRefused(attempt(bench.c, { writes: ["out.weight", "double_blocks.0.weight"] }), "HOST_PARAMETER_UNKNOWN");
      const { "out.weight": _, ...rest } = model;
      const checkpoint = await sourceOf(join(bench.folder, "base.safetensors"), rest, "F32");
      await expect(attempt(bench.a, { checkpoint })).rejects.toMatchObject({ code: "HOST_PARAMETER_UNKNOWN" });
      await expect(bench.host.call("readBack", { engine, parameters: ["nothing"] })).rejects.toMatchObject({
        code: "HOST_PARAMETER_UNKNOWN",
      });
      await expect(bench.host.call("checksums", { engine, parameters: ["nothing"] })).rejects.toMatchObject({
        code: "HOST_PARAMETER_UNKNOWN",
      });
    });
    it("HOST_PLAN_INVALID for a plan of another stack, of a parameter twice, or a full plan with a gap", async () => {
      const stack = [{ adapter: bench.a, strength: 1 }];
      const plan = fullPlan(model, stack);
      const prepare = (changes: object, files = stackFiles(stack)) =>
        bench.host.call("prepare", { engine, generation, plan: { ...plan, ...changes }, checkpoint: bench.checkpoint, stack: files });
      await expectRefused(prepare({}, stackFiles([{ adapter: bench.a, strength: 0.9 }])), "HOST_PLAN_INVALID");
      await expectRefused(prepare({}, []), "HOST_PLAN_INVALID");
      await expectRefused(prepare({ writes: [...plan.writes, ...plan.writes.slice(0, 1)] }), "HOST_PLAN_INVALID");
      await expectRefused(prepare({ writes: plan.writes.slice(1) }), "HOST_PLAN_INVALID");
    });
    it("HOST_PRECISION_UNSUPPORTED or success for bf16, never silence", async () => {
      const call = bench.host.call("load", {
        engine: "bf16",
        graph: null,
        parameters: { "out.weight": [4, 16] },
        weightDtype: "bf16",
        checkpoint: bench.checkpoint,
        stack: [],
      });
      const outcome: unknown = await call.then(
        () => "loaded",
        (error: unknown) => (error as { code: string }).code,
      );
      expect(["loaded", "HOST_PRECISION_UNSUPPORTED"]).toContain(outcome);
    });
    it("HOST_NO_GRAPH for a step on parameters alone", async () => {
      await expectRefused(bench.host.call("step", { engine, generation }), "HOST_NO_GRAPH");
    });
    it("HOST_GRAPH_INVALID for a folder without a graph", async () => {
      await expectRefused(
        bench.host.call("load", {
          engine: "graphless",
          graph: { folder: bench.folder, variant: "fp32" },
          weightDtype: "f32",
          checkpoint: bench.checkpoint,
          stack: [],
        }),
        "HOST_GRAPH_INVALID",
      );
    });
    it("a failed load leaves no engine behind", async () => {
      const checkpoint = await copy("late");
      await rm(join(bench.folder, "late.safetensors"));
      const load = (source: Bench["checkpoint"]) =>
        bench.host.call("load", {
          engine: "late",
          graph: null,
          parameters: { "out.weight": [4, 16] },
          weightDtype: "f32",
          checkpoint: source,
          stack: [],
        });
      await expect(load(checkpoint)).rejects.toMatchObject({ code: "HOST_FILE_MISSING" });
      expect((await load(bench.checkpoint)).generation).toBe(1);
    });
    it("HOST_CANCELLED for a cancelled prepare, or its result when that came first", async () => {
      const outcome = await bench.prepare(engine, null, [{ adapter: bench.a, strength: 1 }], 1, { signal: AbortSignal.abort() }).then(
        (prepared) => bench.host.call("discard", { engine, token: prepared.token }).then(() => "prepared"),
        (error: unknown) => (error as { code: string }).code,
      );
      expect(["prepared", "HOST_CANCELLED"]).toContain(outcome);
      expect(await bench.checksums(engine)).toEqual(before);
    });
  });
}

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { native } from "../../../native/ts/index.ts";
import type { WeightDtype } from "../../../protocol/src/index.ts";
import { readCheckpointSource } from "../../../sidecar/src/catalog/index.ts";
import type { CheckpointSource } from "../../../sidecar/src/catalog/index.ts";
import { ensureDelta } from "../../../sidecar/src/delta/index.ts";
import type { Failure } from "../../../sidecar/src/failure/index.ts";
import type { Host, HostCommand } from "../../../sidecar/src/host/index.ts";
import { leaveHost, sharedHost } from "./shared-host.ts";
import { touchedParameters } from "../../../sidecar/src/terms/index.ts";
import { goldenCases, goldenPath, loadTensors, mismatches, values, type GoldenCase, type GoldenTensor } from "../../golden/cases.ts";
import { hashOf } from "../fixtures.ts";

/** Cases that a live engine refuses although `merge` performs them, with the code that says why. */
const refused: Readonly<Record<string, Failure["code"]>> = {
  lora_nan_propagates: "HOST_NON_FINITE",
  flux_reshape_img_in: "HOST_NOT_REFITTABLE",
  flux_bfl_control: "HOST_NOT_REFITTABLE",
};

const containers: Readonly<Record<string, { readonly engine: WeightDtype; readonly container: string }>> = {
  float32: { engine: "f32", container: "F32" },
  float16: { engine: "f16", container: "F16" },
  bfloat16: { engine: "bf16", container: "BF16" },
};

interface Loaded {
  readonly engine: string;
  readonly checkpoint: CheckpointSource;
  readonly none: Readonly<Record<string, string>>;
  generation: number;
}

/**
 * ComfyUI's own results as live refits: base loaded without a graph, refitted to each case's stack and back. `precisions`: what the host holds without a
 * graph; a base of another dtype is loaded as f32 and compared where the case states its result before rounding.
 */
export function golden(command: HostCommand, precisions: readonly WeightDtype[]): void {
  describe("golden cases as live refits", () => {
    let host: Host;
    let folder = "";
    const loaded = new Map<string, Promise<Loaded>>();
    beforeAll(async () => {
      host = await sharedHost(command);
      folder = await mkdtemp(join(tmpdir(), "refit-golden-"));
    });
    afterAll(async () => {
      await leaveHost(host);
      await rm(folder, { recursive: true, force: true });
    });

    const load = (golden: GoldenCase, dtype: WeightDtype): Promise<Loaded> => {
      const engine = `${golden.base} ${dtype}`;
      const known = loaded.get(engine);
      if (known !== undefined) return known;
      const made = (async (): Promise<Loaded> => {
        const path = goldenPath(golden.base);
        const checkpoint = await readCheckpointSource([path]);
        const parameters = Object.fromEntries(Object.entries(checkpoint.parameters).map(([name, { shape }]) => [name, [...shape]]));
        await host.call("load", { engine, graph: null, parameters, weightDtype: dtype, checkpoint, stack: [] });
        return { engine, checkpoint, none: (await host.call("checksums", { engine })).sha256, generation: 1 };
      })();
      loaded.set(engine, made);
      return made;
    };

    const stackOf = async (golden: GoldenCase, checkpoint: CheckpointSource) => {
      const parameters = new Map(Object.entries(checkpoint.parameters).map(([name, { shape }]) => [name, shape]));
      const stack: { delta: string; sha256: string; strength: number }[] = [];
      const touched = new Set<string>();
      for (const [index, { file, strength }] of golden.adapters.entries()) {
        const sha256 = hashOf(`${golden.name} ${index}`);
        const ready = await ensureDelta(
          {
            adapter: { path: goldenPath(file), sha256 },
            target: { family: golden.family, structure: hashOf(golden.base), parameters },
            mode: "comfyui",
            folder,
          },
          native,
        );
        stack.push({ delta: ready.path, sha256, strength });
        for (const name of touchedParameters(ready.header.terms)) touched.add(name);
      }
      return { stack, touched: [...touched] };
    };

    const refit = async (at: Loaded, stack: Awaited<ReturnType<typeof stackOf>>["stack"], writes: readonly string[]) => {
      const to = { checkpoint: "base", stack: stack.map(({ sha256, strength }) => ({ sha256, strength })) };
      const plan = {
        from: { checkpoint: "base", stack: [] },
        to,
        full: false,
        writes: writes.map((parameter) => ({ parameter, reason: "touched" as const })),
      };
      const { token } = await host.call("prepare", {
        engine: at.engine,
        generation: at.generation,
        plan,
        checkpoint: at.checkpoint,
        stack,
      });
      at.generation = (await host.call("commit", { engine: at.engine, token })).generation;
    };

    for (const golden of goldenCases()) {
      it(golden.name, async () => {
        const own = containers[golden.base_dtype];
        const exact = own !== undefined && precisions.includes(own.engine) ? own : null;
        const at = await load(golden, exact?.engine ?? "f32");
        const { stack, touched } = await stackOf(golden, at.checkpoint);
        const code = refused[golden.name];
        if (code !== undefined) {
          await expect(refit(at, stack, touched)).rejects.toMatchObject({ code } satisfies Partial<Failure>);
          expect((await host.call("checksums", { engine: at.engine })).sha256).toEqual(at.none);
          return;
        }
        await refit(at, stack, touched);
        const { tensors } = await host.call("readBack", { engine: at.engine, parameters: touched });
        const got = new Map(
          tensors.map(({ name, shape, data }): [string, GoldenTensor] => [
            at.checkpoint.parameters[name]?.pieces[0]?.key ?? "",
            { dtype: exact?.container ?? "F32", shape, data },
          ]),
        );
        if (exact !== null) expect(mismatches(golden, new Map([...loadTensors(goldenPath(golden.base)), ...got]))).toEqual([]);
        else compareUnrounded(golden, got);
        await refit(at, [], touched);
        expect((await host.call("checksums", { engine: at.engine })).sha256).toEqual(at.none);
      });
    }
  });
}

/** An engine in f32 never rounds to the file's fp8: its values are ComfyUI's before rounding. Without those, ComfyUI's rounded ones within half a step of 2^-3. */
function compareUnrounded(golden: GoldenCase, got: ReadonlyMap<string, GoldenTensor>): void {
  const expected = loadTensors(goldenPath(golden.expected));
  for (const key of golden.touched) {
    const actual = values(got.get(key) ?? { dtype: "F32", shape: [], data: new Uint8Array() });
    const before = expected.get(`${key}.__f32__`);
    const wanted = before ?? expected.get(key);
    if (wanted === undefined) throw new Error(`${golden.name} expects nothing of ${key}`);
    const relative = before === undefined ? 2 ** -8 : 1e-5;
    const numbers = values(wanted);
    expect(actual.length).toBe(numbers.length);
    for (const [index, value] of numbers.entries())
      expect(Math.abs((actual[index] ?? NaN) - value), `${key}[${index}]`).toBeLessThanOrEqual(1e-5 + relative * Math.abs(value));
  }
}

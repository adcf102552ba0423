import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { native, type FloatDtype } from "@refit-sidecar/native";
import { ensureDelta, type ReadyDelta } from "../../../sidecar/src/delta/index.ts";
import {
  canonicalNames,
  f32Factors,
  mergeParameter,
  openDelta,
  type Addend,
  type Delta,
  type MergeMode,
} from "../../../sidecar/src/terms/index.ts";
import { noNotes, plainTensors, type StoredTensors } from "../../../sidecar/src/storage/index.ts";
import {
  describedCases,
  goldenCases,
  goldenPath,
  loadTensors,
  mismatches,
  values,
  type GoldenCase,
  type GoldenTensor,
} from "../../golden/cases.ts";

const folder = mkdtempSync(join(tmpdir(), "refit-golden-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function run(golden: GoldenCase, mode: MergeMode): Promise<{ tensors: Map<string, GoldenTensor>; deltas: ReadyDelta[] }> {
  const base = loadTensors(goldenPath(golden.base));
  const plain = plainTensors(base as StoredTensors, {}, noNotes);
  const names = canonicalNames(new Map([...plain.tensors].map(([key, { shape }]) => [key, shape])), golden.family);
  const parameters = new Map([...names.parameters].map(([name, { shape }]) => [name, shape]));
  const deltas: ReadyDelta[] = [];
  const open: { delta: Delta & { close(): Promise<void> }; strength: number }[] = [];
  for (const [index, { file, strength }] of golden.adapters.entries()) {
    const path = goldenPath(file);
    const ready = await ensureDelta(
      {
        adapter: { path, sha256: `${golden.name}-${index}` },
        target: { family: golden.family, structure: `structure of ${golden.base}`.replace(/\W/g, "_"), parameters },
        mode,
        folder,
      },
      native,
    );
    deltas.push(ready);
    open.push({ delta: await openDelta(await native.openTensorFile(ready.path)), strength });
  }
  const tensors = new Map(base);
  for (const [name, { parts, shape }] of names.parameters) {
    const key = parts[0]!.key;
    const addends: Addend[] = open.flatMap(({ delta, strength }) => {
      const factors = f32Factors((factor) => delta.factor(factor), native);
      return delta.header.terms.filter((term) => term.target.parameter === name).map((term) => ({ term, strength, factors }));
    });
    if (addends.length === 0) continue;
    const stored = base.get(key)!;
    const scaleKey = plain.tensors.get(key)?.storage?.scale;
    const scale = scaleKey === undefined ? 1 : values(base.get(scaleKey)!)[0]!;
    const dtype = stored.dtype as FloatDtype;
    const outcome = await mergeParameter({
      base: { data: stored.data, dtype, shape, scale },
      addends,
      out: { dtype, scale },
      kernels: native,
    });
    tensors.set(key, { dtype, shape: outcome.shape, data: outcome.data });
  }
  for (const { delta } of open) await delta.close();
  return { tensors, deltas };
}

describe("golden cases through recogniser, delta file and evaluator", () => {
  for (const golden of [...goldenCases(), ...describedCases().filter(({ comfy_error }) => comfy_error === undefined)]) {
    test(`${golden.family} ${golden.name}`, async () => {
      const { tensors, deltas } = await run(golden, "comfyui");
      expect(mismatches(golden, tensors)).toEqual([]);
      // ComfyUI names ignored keys after its whole-file renames; the report keeps the file's own and says how it was read.
      const ignored = deltas.flatMap(({ header }) =>
        header.report.ignored.map(({ key, reason }) => / \(read as (.*)\)$/.exec(reason)?.[1] ?? key),
      );
      expect(ignored.sort()).toEqual([...golden.ignored_adapter_keys].sort());
    });
  }
});

describe("golden cases that ComfyUI cannot evaluate, in extended mode", () => {
  for (const golden of goldenCases().filter(({ name }) => name === "lokr_conv_tucker_comfy_fails")) {
    test(golden.name, async () => {
      const { tensors } = await run(golden, "extended");
      expect(mismatches(golden, tensors, { intended: true })).toEqual([]);
    });
  }
});

describe("cases that make ComfyUI raise", () => {
  for (const golden of describedCases().filter(({ comfy_error }) => comfy_error !== undefined)) {
    test(`${golden.family} ${golden.name}: the right rows`, async () => {
      const { tensors } = await run(golden, "comfyui");
      const expected = loadTensors(goldenPath(golden.expected));
      const wanted = new Map([...expected].map(([name, tensor]) => [name.replace(/\.__intended__$/, ""), tensor]));
      for (const [key, tensor] of wanted)
        values(tensors.get(key)!).forEach((value, i) => expect(value).toBeCloseTo(values(tensor)[i] ?? NaN, 5));
      expect([...wanted.keys()]).not.toEqual([]);
    });
  }
});

test("the comparison notices a base that nothing was merged into", () => {
  const unnoticed = goldenCases().filter(
    (golden) => golden.changed.length > 0 && mismatches(golden, loadTensors(goldenPath(golden.base))).length === 0,
  );
  expect(unnoticed.map(({ name }) => name)).toEqual([]);
});

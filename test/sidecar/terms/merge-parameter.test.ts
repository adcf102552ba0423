import { describe, expect, test } from "vitest";
import { native } from "@refit-sidecar/native";
import {
  changesShape,
  checkTerms,
  f32Factors,
  mergeParameter,
  touchedParameters,
  type Addend,
  type Factor,
  type Term,
} from "../../../sidecar/src/terms/index.ts";
import { numbers } from "../delta/files.ts";

type Tensors = Readonly<Record<string, { readonly shape: readonly number[]; readonly values: Float32Array }>>;

const bytes = (values: Float32Array): Uint8Array => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
const floats = (data: Uint8Array): Float32Array => new Float32Array(data.slice().buffer);

function random(shape: readonly number[], seed: number): { shape: readonly number[]; values: Float32Array } {
  const next = numbers(seed);
  return { shape, values: Float32Array.from({ length: shape.reduce((product, dim) => product * dim, 1) }, next) };
}

const addend = (term: Term, strength: number, tensors: Tensors): Addend => ({
  term,
  strength,
  factors: f32Factors(async (name): Promise<Factor> => {
    const tensor = tensors[name];
    if (!tensor) throw new Error(`no factor ${name}`);
    return { dtype: "F32", shape: tensor.shape, data: bytes(tensor.values) };
  }, native),
});

const at = (parameter = "p.weight"): Pick<Term, "target" | "sourceKeys"> => ({ target: { parameter }, sourceKeys: [] });
const lowRank = (extra: Partial<Extract<Term, { kind: "lowRank" }>> = {}): Term => ({
  ...at(),
  kind: "lowRank",
  scale: 0.5,
  up: "up",
  down: "down",
  ...extra,
});

/** T += strength * scale * up * down on rows of the view, in doubles. */
function addReference(target: Float64Array, cols: number, start: number, tensors: Tensors, strength: number, scale = 0.5): void {
  const { up, down } = tensors;
  const rank = down!.shape[0]!;
  for (let row = 0; row < up!.shape[0]!; row += 1) {
    for (let col = 0; col < cols; col += 1) {
      let sum = 0;
      for (let k = 0; k < rank; k += 1) sum += up!.values[row * rank + k]! * down!.values[k * cols + col]!;
      target[(start + row) * cols + col]! += strength * scale * sum;
    }
  }
}

const close = (actual: Float32Array, expected: Float64Array): void => {
  for (let i = 0; i < expected.length; i += 1) expect(Math.abs(actual[i]! - expected[i]!)).toBeLessThan(1e-5);
};

describe("mergeParameter", () => {
  const base = random([12, 10], 1);
  const f32 = { data: bytes(base.values), dtype: "F32" as const, shape: base.shape };

  test("merges a stack with terms on rows in one pass per set of rows", async () => {
    const whole = { up: random([12, 3], 2), down: random([3, 10], 3) };
    const rows = { up: random([4, 2], 4), down: random([2, 10], 5) };
    const addends = [
      addend(lowRank(), 0.8, whole),
      addend(lowRank({ target: { parameter: "p.weight", slice: { start: 4, length: 4 } } }), -0.3, rows),
      addend(lowRank(), 1.5, whole),
    ];
    const calls: number[] = [];
    const kernels = {
      ...native,
      mergeLowRank: (job: Parameters<typeof native.mergeLowRank>[0]) => (calls.push(job.factors.length), native.mergeLowRank(job)),
    };
    const outcome = await mergeParameter({ base: f32, addends, out: { dtype: "F32" }, kernels });
    const expected = Float64Array.from(base.values);
    addReference(expected, 10, 0, whole, 0.8);
    addReference(expected, 10, 4, rows, -0.3);
    addReference(expected, 10, 0, whole, 1.5);
    close(floats(outcome.data), expected);
    expect(calls).toEqual([2, 3, 2]);
    expect(outcome).toMatchObject({ shape: [12, 10], saturated: 0, skipped: [] });
  });

  test("gives the same bytes every time and the base's own without addends", async () => {
    const tensors = { up: random([12, 3], 2), down: random([3, 10], 3) };
    const merge = (addends: Addend[]): Promise<Uint8Array> =>
      mergeParameter({ base: f32, addends, out: { dtype: "F32" }, kernels: native }).then(({ data }) => data);
    const first = await merge([addend(lowRank(), 0.8, tensors)]);
    expect(await merge([])).toEqual(bytes(base.values));
    expect(await merge([addend(lowRank(), 0.8, tensors)])).toEqual(first);
  });

  test("rearranges the halves of an odd number of rows as torch's chunk does", async () => {
    const tensors = { up: random([3, 1], 6), down: random([1, 2], 7) };
    const small = random([3, 2], 8);
    const outcome = await mergeParameter({
      base: { data: bytes(small.values), dtype: "F32", shape: [3, 2] },
      addends: [addend(lowRank({ scale: 1, target: { parameter: "p.weight", swapHalves: true } }), 1, tensors)],
      out: { dtype: "F32" },
      kernels: native,
    });
    const change = new Float64Array(6);
    addReference(change, 2, 0, tensors, 1, 1);
    // First half: rows 0 and 1. Second half: row 2.
    const expected = Float64Array.from(
      small.values,
      (value, i) => value + [change[4]!, change[5]!, change[0]!, change[1]!, change[2]!, change[3]!][i]!,
    );
    close(floats(outcome.data), expected);
  });

  test("one pass and term by term agree", async () => {
    const tensors = { up: random([12, 3], 2), down: random([3, 10], 3), value: random([12, 10], 9) };
    const dense: Term = { ...at(), kind: "dense", value: "value" };
    const outcome = await mergeParameter({
      base: f32,
      addends: [addend(dense, 0, tensors), addend(lowRank(), 0.8, tensors)],
      out: { dtype: "F32" },
      kernels: native,
    });
    const fast = await mergeParameter({ base: f32, addends: [addend(lowRank(), 0.8, tensors)], out: { dtype: "F32" }, kernels: native });
    close(floats(outcome.data), Float64Array.from(floats(fast.data)));
  });

  test("pads, and leaves out what no longer fits behind the pad", async () => {
    const wide = { up: random([12, 2], 2), down: random([2, 14], 3) };
    const narrow = { up: random([12, 2], 4), down: random([2, 10], 5) };
    const addends = [addend(lowRank({ padTo: [12, 14] }), 1, wide), addend(lowRank(), 1, narrow)];
    const outcome = await mergeParameter({ base: f32, addends, out: { dtype: "F32" }, kernels: native });
    expect(outcome.shape).toEqual([12, 14]);
    expect(outcome.skipped).toMatchObject([{ reason: expect.stringContaining("12 x 10") }]);
    const expected = new Float64Array(12 * 14);
    for (let row = 0; row < 12; row += 1) for (let col = 0; col < 10; col += 1) expected[row * 14 + col] = base.values[row * 10 + col]!;
    addReference(expected, 14, 0, wide, 1);
    close(floats(outcome.data), expected);
    await expect(
      mergeParameter({ base: f32, addends, out: { dtype: "F32", data: new Uint8Array(480) }, kernels: native }),
    ).rejects.toMatchObject({ code: "TERMS_SHAPE_CHANGED" });
  });

  test("counts values that scaled fp8 clamps and keeps the scale", async () => {
    const dense: Term = { ...at(), kind: "dense", value: "value" };
    const tensors = { value: { shape: [1, 3], values: Float32Array.from([0, 1000, -1000]) } };
    const outcome = await mergeParameter({
      base: { data: Uint8Array.from([0x38, 0x38, 0x38]), dtype: "F8_E4M3", shape: [1, 3], scale: 2 },
      addends: [addend(dense, 1, tensors)],
      out: { dtype: "F8_E4M3", scale: 2 },
      kernels: native,
    });
    expect([...outcome.data]).toEqual([0x38, 0x7e, 0xfe]);
    expect(outcome.saturated).toBe(2);
  });

  test("stops when cancelled", async () => {
    const dense: Term = { ...at(), kind: "dense", value: "value" };
    await expect(
      mergeParameter({
        base: f32,
        addends: [addend(dense, 1, { value: base })],
        out: { dtype: "F32" },
        kernels: native,
        signal: AbortSignal.abort(),
      }),
    ).rejects.toMatchObject({ name: "AbortError" });
  });
});

describe("orthogonal terms", () => {
  test("rotations of any block size keep lengths, and strength 0 keeps the values", async () => {
    for (const size of [1, 2, 95, 96, 97, 200, 311]) {
      const tensors = { blocks: random([1, size, size], size) };
      const view = random([size, 3], 99);
      const term: Term = { ...at(), kind: "orthogonal", variant: "oft", blocks: "blocks", constraint: null };
      const merge = (strength: number): Promise<Float32Array> =>
        mergeParameter({
          base: { data: bytes(view.values), dtype: "F32", shape: view.shape },
          addends: [addend(term, strength, tensors)],
          out: { dtype: "F32" },
          kernels: native,
        }).then(({ data }) => floats(data));
      const turned = await merge(1);
      for (let col = 0; col < 3; col += 1) {
        const norm = (values: Float32Array): number => Math.hypot(...Array.from({ length: size }, (_, row) => values[row * 3 + col]!));
        expect(Math.abs(norm(turned) - norm(view.values)) / norm(view.values), `size ${size}`).toBeLessThan(2e-5);
      }
      expect(await merge(0)).toEqual(view.values);
    }
  });
});

describe("f32Factors", () => {
  test("reads each factor once, and again after a failure", async () => {
    let reads = 0;
    const factors = f32Factors(async () => {
      reads += 1;
      if (reads === 1) throw new Error("passing fault");
      return { dtype: "F32", shape: [1], data: bytes(Float32Array.from([4])) };
    }, native);
    await expect(factors("f0")).rejects.toThrow("passing fault");
    expect((await factors("f0")).data[0]).toBe(4);
    await factors("f0");
    expect(reads).toBe(2);
  });

  test("refuses integers by name", async () => {
    await expect(f32Factors(async () => ({ dtype: "I64", shape: [1], data: new Uint8Array(8) }), native)("f3")).rejects.toMatchObject({
      code: "TERMS_FACTOR_DTYPE",
      evidence: { factor: "f3" },
    });
  });
});

describe("checkTerms", () => {
  const shapes = new Map([
    ["up", [12, 3]],
    ["down", [3, 10]],
  ]);
  const parameters = new Map([["p.weight", [12, 10]]]);
  const reason = (term: Term): string | undefined => checkTerms([term], (name) => shapes.get(name), parameters)[0]?.reason;

  test("passes what fits and names what does not", () => {
    expect(reason(lowRank())).toBeUndefined();
    expect(reason(lowRank(at("q.weight")))).toContain("no parameter q.weight");
    expect(reason(lowRank({ mid: "mid" }))).toContain("factor mid is missing");
    expect(reason(lowRank({ target: { parameter: "p.weight", slice: { start: 8, length: 8 } } }))).toContain("outside");
    expect(reason(lowRank({ target: { parameter: "p.weight", slice: { start: 0, length: 6 } } }))).toContain("12 x 10");
  });
});

test("facts of terms", () => {
  expect([...touchedParameters([lowRank(), lowRank(at("b"))])]).toEqual(["p.weight", "b"]);
  expect([lowRank(), lowRank({ padTo: [1] })].map(changesShape)).toEqual([false, true]);
});

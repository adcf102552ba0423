import { native } from "@refit-sidecar/native";
import { describe, expect, it } from "vitest";
import { changeNorm, termRank } from "../../../sidecar/src/terms/index.ts";
import type { F32Tensor, Term } from "../../../sidecar/src/terms/index.ts";

let state = 7;
/** Numbers between -1 and 1, the same at every run. */
const random = (...shape: number[]): F32Tensor => ({
  shape,
  data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return state / 2 ** 31 - 1;
  }),
});
const at = (tensor: F32Tensor, ...place: number[]): number =>
  tensor.data[place.reduce((sum, index, axis) => sum * (tensor.shape[axis] ?? 1) + index, 0)] ?? 0;
const times = (a: F32Tensor, b: F32Tensor): number[][] =>
  Array.from({ length: a.shape[0] ?? 0 }, (_, row) =>
    Array.from({ length: b.shape[1] ?? 0 }, (_, column) =>
      Array.from({ length: a.shape[1] ?? 0 }, (_, k) => at(a, row, k) * at(b, k, column)).reduce((x, y) => x + y, 0),
    ),
  );
const length = (matrix: number[][]): number => Math.hypot(...matrix.flat());
const target = { target: { parameter: "p" }, sourceKeys: [] };
const norm = (term: Term, factors: Record<string, F32Tensor>) => changeNorm(term, async (name) => factors[name]!, native);

describe("changeNorm", () => {
  it("is the norm of scale * up * down", async () => {
    const factors = { up: random(12, 3), down: random(3, 10) };
    const found = await norm({ ...target, kind: "lowRank", scale: -0.5, up: "up", down: "down" }, factors);
    expect(found).toBeCloseTo(0.5 * length(times(factors.up, factors.down)), 5);
  });

  it("goes through a convolution core", async () => {
    const factors = { up: random(5, 2, 1, 1), down: random(2, 4, 1, 1), mid: random(2, 2, 3, 3) };
    let square = 0;
    for (let o = 0; o < 5; o += 1)
      for (let i = 0; i < 4; i += 1)
        for (let k = 0; k < 9; k += 1) {
          let sum = 0;
          for (let a = 0; a < 2; a += 1)
            for (let b = 0; b < 2; b += 1)
              sum += at(factors.up, o, a, 0, 0) * at(factors.mid, a, b, Math.floor(k / 3), k % 3) * at(factors.down, b, i, 0, 0);
          square += sum * sum;
        }
    const found = await norm({ ...target, kind: "lowRank", scale: 2, up: "up", down: "down", mid: "mid" }, factors);
    expect(found).toBeCloseTo(2 * Math.sqrt(square), 4);
  });

  it("is the norm of a Hadamard and of a Kronecker product", async () => {
    const factors = { a: random(6, 2), b: random(2, 5), c: random(6, 2), d: random(2, 5) };
    const [left, right] = [times(factors.a, factors.b), times(factors.c, factors.d)];
    const product = left.map((row, i) => row.map((value, j) => value * (right[i]?.[j] ?? 0)));
    const hadamard = { ...target, kind: "hadamard", scale: 3, w1a: "a", w1b: "b", w2a: "c", w2b: "d" } as const;
    expect(await norm(hadamard, factors)).toBeCloseTo(3 * length(product), 4);
    const kronecker = { ...target, kind: "kronecker", scale: 1, w1: "a", w2a: "c", w2b: "d" } as const;
    expect(await norm(kronecker, factors)).toBeCloseTo(Math.hypot(...factors.a.data) * length(right), 4);
    expect(termRank(hadamard, (name) => factors[name as "a"].shape)).toBe(2);
  });

  it("is not told where the checkpoint's values count", async () => {
    const factors = { up: random(2, 1), down: random(1, 2), value: random(2, 2) };
    expect(await norm({ ...target, kind: "lowRank", scale: 1, up: "up", down: "down", doraScale: "value" }, factors)).toBeNull();
    expect(await norm({ ...target, kind: "set", value: "value" }, factors)).toBeNull();
    expect(await norm({ ...target, kind: "dense", value: "value" }, factors)).toBeCloseTo(Math.hypot(...factors.value.data), 6);
  });
});

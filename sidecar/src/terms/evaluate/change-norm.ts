// The Frobenius norm of what a term adds at strength 1, from its factors alone where that can be told without the product.

import type { Kernels } from "@refit-sidecar/native";
import { columns, type F32Tensor, type FactorReader } from "../kinds/kind.ts";
import { lowRankFactors } from "../kinds/low-rank.ts";
import type { FactorName, Term } from "../types.ts";

/**
 * Null where the change depends on the checkpoint's values (DoRA, OFT, GLoRA, whole weights), or the factors are of a rare form.
 * Low rank: |s U D|^2 = s^2 <U'U, DD'> (Gram matrices, so the product of `rows x columns` is never made); a Kronecker product's norm is the product of both norms.
 */
export async function changeNorm(term: Term, factors: FactorReader, kernels: Kernels): Promise<number | null> {
  if (term.doraScale !== undefined) return null;
  switch (term.kind) {
    case "lowRank": {
      const { up, down } = await lowRankFactors(term, { factors, kernels });
      return Math.abs(term.scale) * productNorm(up, down);
    }
    case "hadamard": {
      if (term.t1 !== undefined || term.t2 !== undefined) return null;
      const [a, b, c, d] = await Promise.all([term.w1a, term.w1b, term.w2a, term.w2b].map((name) => factors(name)));
      return a && b && c && d ? Math.abs(term.scale) * hadamardNorm(a, b, c, d) : null;
    }
    case "kronecker": {
      if (term.t2 !== undefined) return null;
      const [first, second] = [await partNorm(factors, term.w1, term.w1a, term.w1b), await partNorm(factors, term.w2, term.w2a, term.w2b)];
      return first === null || second === null ? null : Math.abs(term.scale) * first * second;
    }
    case "dense":
      return plainNorm((await factors(term.value)).data);
    default:
      return null;
  }
}

/** Rank of a term's factors; null for kinds that have none. */
export function termRank(term: Term, shapeOf: (name: FactorName) => readonly number[] | undefined): number | null {
  if (term.kind === "lowRank") return shapeOf(term.down)?.[0] ?? null;
  if (term.kind === "hadamard") return shapeOf(term.w1b)?.[0] ?? null;
  if (term.kind === "kronecker") return shapeOf(term.w2b ?? "")?.[0] ?? shapeOf(term.w1b ?? "")?.[0] ?? null;
  return null;
}

async function partNorm(factors: FactorReader, whole?: FactorName, a?: FactorName, b?: FactorName): Promise<number | null> {
  if (whole !== undefined) return plainNorm((await factors(whole)).data);
  return a === undefined || b === undefined ? null : productNorm(await factors(a), await factors(b));
}

function plainNorm(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += value * value;
  return Math.sqrt(sum);
}

/** |U D| with U [rows, rank] and D [rank, columns]. */
function productNorm(up: F32Tensor, down: F32Tensor): number {
  const rank = columns(up.shape);
  const [left, right] = [gramOfColumns(up.data, up.shape[0] ?? 0, rank), gramOfRows(down.data, rank, columns(down.shape))];
  let sum = 0;
  for (let i = 0; i < rank * rank; i += 1) sum += (left[i] ?? 0) * (right[i] ?? 0);
  return Math.sqrt(Math.max(0, sum));
}

function gramOfColumns(data: Float32Array, rows: number, rank: number): Float64Array {
  const gram = new Float64Array(rank * rank);
  for (let row = 0; row < rows; row += 1) {
    const from = row * rank;
    for (let a = 0; a < rank; a += 1) {
      const value = data[from + a] as number;
      if (value !== 0)
        for (let b = a; b < rank; b += 1) gram[a * rank + b] = (gram[a * rank + b] as number) + value * (data[from + b] as number);
    }
  }
  return mirrored(gram, rank);
}

function gramOfRows(data: Float32Array, rank: number, width: number): Float64Array {
  const gram = new Float64Array(rank * rank);
  for (let a = 0; a < rank; a += 1)
    for (let b = a; b < rank; b += 1) {
      let sum = 0;
      for (let i = 0; i < width; i += 1) sum += (data[a * width + i] as number) * (data[b * width + i] as number);
      gram[a * rank + b] = sum;
    }
  return mirrored(gram, rank);
}

function mirrored(gram: Float64Array, rank: number): Float64Array {
  for (let a = 0; a < rank; a += 1) for (let b = 0; b < a; b += 1) gram[a * rank + b] = gram[b * rank + a] as number;
  return gram;
}

/** |(A B) o (C D)|, one row of both products at a time. */
function hadamardNorm(a: F32Tensor, b: F32Tensor, c: F32Tensor, d: F32Tensor): number {
  const [rows, width] = [a.shape[0] ?? 0, columns(b.shape)];
  const [first, second] = [new Float32Array(width), new Float32Array(width)];
  const rowOf = (out: Float32Array, up: F32Tensor, down: F32Tensor, row: number) => {
    out.fill(0);
    const rank = columns(up.shape);
    for (let k = 0; k < rank; k += 1) {
      const weight = up.data[row * rank + k] as number;
      for (let i = 0; i < width; i += 1) out[i] = (out[i] as number) + weight * (down.data[k * width + i] as number);
    }
  };
  let sum = 0;
  for (let row = 0; row < rows; row += 1) {
    rowOf(first, a, b, row);
    rowOf(second, c, d, row);
    for (let i = 0; i < width; i += 1) sum += ((first[i] as number) * (second[i] as number)) ** 2;
  }
  return Math.sqrt(sum);
}

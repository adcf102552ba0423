// What every kernel checks about its arguments before it touches a byte; shared by the native and the TypeScript kernels.

import type { FloatDtype, LossJob, MergeLowRankJob } from "./api.ts";
import { dtypeBytes } from "./dtypes.ts";

export function checkMergeJob(job: MergeLowRankJob): void {
  const { rows, cols } = job;
  checkCount("rows", rows);
  checkCount("cols", cols);
  const elements = rows * cols;
  checkCount("rows * cols", elements);
  checkBytes("base", job.base, job.baseDtype, elements);
  checkBytes("out", job.out, job.outDtype, elements);
  if (job.baseScale !== undefined) checkScale("baseScale", job.baseScale);
  if (job.loss !== undefined && job.loss.length < 3) throw new RangeError(`loss: expected room for 3 numbers, got ${job.loss.length}`);
  if (overlap(job.base, job.out) && !(job.base.byteOffset === job.out.byteOffset && job.baseDtype === job.outDtype)) {
    throw new RangeError("mergeLowRank: base and out overlap; expected separate buffers, or the same start and dtype");
  }
  for (const [index, factor] of job.factors.entries()) {
    checkCount(`factors[${index}].rank`, factor.rank);
    checkScale(`factors[${index}].scale`, factor.scale);
    checkFloats(`factors[${index}].up`, factor.up, rows * factor.rank);
    checkFloats(`factors[${index}].down`, factor.down, factor.rank * cols);
    if (overlap(factor.up, job.out) || overlap(factor.down, job.out)) throw new RangeError(`mergeLowRank: factors[${index}] overlaps out`);
  }
}

export function checkLossJob({ before, change, after, error, sums }: LossJob): void {
  for (const [name, values] of Object.entries({ before, after, error }))
    if (values !== undefined && values !== null) checkFloats(name, values, change.length);
  if (sums.length < 3) throw new RangeError(`sums: expected room for 3 numbers, got ${sums.length}`);
}

export function checkMatmul(a: Float32Array, b: Float32Array, m: number, k: number, n: number, out: Float32Array): void {
  checkCount("m", m);
  checkCount("k", k);
  checkCount("n", n);
  checkFloats("a", a, m * k);
  checkFloats("b", b, k * n);
  checkFloats("out", out, m * n);
  if (overlap(a, out) || overlap(b, out)) throw new RangeError("matmul: out overlaps a or b");
}

export function checkConvert(source: Uint8Array, from: FloatDtype, target: Uint8Array, to: FloatDtype, count: number, scale: number): void {
  checkCount("count", count);
  checkBytes("source", source, from, count);
  checkBytes("target", target, to, count);
  checkScale("scale", scale);
  if (overlap(source, target) && !(source.byteOffset === target.byteOffset && from === to)) {
    throw new RangeError("convert: source and target overlap; expected separate buffers, or the same start and dtype");
  }
}

export function checkBytes(name: string, bytes: Uint8Array, dtype: FloatDtype, count: number): void {
  const expected = count * dtypeBytes[dtype];
  if (bytes.byteLength < expected)
    throw new RangeError(`${name}: expected at least ${expected} bytes for ${count} ${dtype} values, got ${bytes.byteLength}`);
}

export function checkCount(name: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${name}: expected a non-negative integer, got ${value}`);
}

function checkScale(name: string, value: number): void {
  if (Number.isNaN(value)) throw new RangeError(`${name}: expected a number, got NaN`);
}

function checkFloats(name: string, values: Float32Array, count: number): void {
  if (values.length < count) throw new RangeError(`${name}: expected at least ${count} values, got ${values.length}`);
}

function overlap(a: ArrayBufferView, b: ArrayBufferView): boolean {
  return a.buffer === b.buffer && a.byteOffset < b.byteOffset + b.byteLength && b.byteOffset < a.byteOffset + a.byteLength;
}

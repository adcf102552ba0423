import type { FloatDtype, Kernels, LossJob, MergeLowRankJob } from "../api.ts";
import { checkBytes, checkConvert, checkCount, checkLossJob, checkMatmul, checkMergeJob } from "../check-job.ts";
import { dtypeBytes } from "../dtypes.ts";
import { hashFile } from "../file/hash-file.ts";
import { decodeTo, encodeFrom, view } from "./convert.ts";
import { inSlices } from "./slices.ts";

/** Elements per block: small enough to stay in a core's cache, large enough to hide the loop around it. */
const blockElements = 16 * 1024;

/**
 * Plain JavaScript kernels. Products are formed in double and every partial sum is stored as f32, so each step is at least as exact as one f32
 * multiply-add; results agree with the native kernels within 1e-6 relative, not bit for bit.
 */
export function fallbackKernels(detail: string): Kernels {
  return { kind: "fallback", detail, mergeLowRank, lossOf, matmul, convert, firstNonFinite, hashFile };
}

async function mergeLowRank(job: MergeLowRankJob): Promise<void> {
  checkMergeJob(job);
  const { rows, cols, base, baseDtype, out, outDtype } = job;
  const baseScale = Math.fround(job.baseScale ?? 1);
  const merged = new Float32Array(cols);
  const delta = new Float32Array(cols);
  const before = job.loss === undefined ? null : new Float32Array(cols);
  const rowsPerBlock = Math.max(1, Math.floor(blockElements / Math.max(1, cols)));
  await inSlices(rows, rowsPerBlock, job.signal, (start, end) => {
    for (let row = start; row < end; row++) {
      decodeTo(base, baseDtype, row * cols, cols, merged);
      if (baseScale !== 1) scaleBy(merged, baseScale);
      if (job.factors.length > 0) {
        if (before !== null) keepBefore(merged, before, job);
        delta.fill(0);
        for (const factor of job.factors)
          addProductRow(factor.up, row * factor.rank, factor.rank, factor.down, cols, Math.fround(factor.scale), delta);
        for (let i = 0; i < cols; i++) merged[i] = (merged[i] as number) + (delta[i] as number);
      }
      encodeFrom(merged, out, outDtype, row * cols);
      if (before === null || job.loss === undefined || job.factors.length === 0) continue;
      decodeTo(out, outDtype, row * cols, cols, merged);
      addLoss(before, delta, merged, 0, cols, job.loss);
    }
  });
}

/** The base in the output's dtype: what is stored when nothing is merged. */
function keepBefore(values: Float32Array, before: Float32Array, { baseDtype, outDtype, baseScale }: MergeLowRankJob): void {
  before.set(values);
  if (baseDtype === outDtype && (baseScale ?? 1) === 1) return;
  const codes = new Uint8Array(values.length * dtypeBytes[outDtype]);
  encodeFrom(before, codes, outDtype, 0);
  decodeTo(codes, outDtype, 0, before.length, before);
}

function addLoss(
  before: Float32Array | null,
  change: Float32Array,
  after: Float32Array,
  start: number,
  end: number,
  sums: Float64Array,
): void {
  let [changeSq, dot, errorSq] = [0, 0, 0];
  for (let i = start; i < end; i++) {
    const wanted = change[i] as number;
    const error = before === null ? (after[i] as number) : (after[i] as number) - (before[i] as number) - wanted;
    changeSq += wanted * wanted;
    dot += wanted * error;
    errorSq += error * error;
  }
  sums[0] = (sums[0] ?? 0) + changeSq;
  sums[1] = (sums[1] ?? 0) + dot;
  sums[2] = (sums[2] ?? 0) + errorSq;
}

async function lossOf(job: LossJob): Promise<void> {
  checkLossJob(job);
  const { before, change, after, error } = job;
  await inSlices(change.length, blockElements, undefined, (start, end) => {
    addLoss(before, change, after, start, end, job.sums);
    if (error === undefined) return;
    for (let i = start; i < end; i++)
      error[i] = before === null ? (after[i] as number) : (after[i] as number) - (before[i] as number) - (change[i] as number);
  });
}

/** out[0..n) += sum over k of (scale * a[aStart + k]) * b[k, 0..n); four rows of b at a time, then single ones. */
function addProductRow(a: Float32Array, aStart: number, depth: number, b: Float32Array, n: number, scale: number, out: Float32Array): void {
  const factor = (k: number): number => Math.fround(scale * (a[aStart + k] as number));
  let k = 0;
  for (; k + 4 <= depth; k += 4) {
    const [c0, c1, c2, c3] = [factor(k), factor(k + 1), factor(k + 2), factor(k + 3)];
    const row = k * n;
    for (let j = 0; j < n; j++) {
      out[j] =
        (out[j] as number) +
        c0 * (b[row + j] as number) +
        c1 * (b[row + n + j] as number) +
        c2 * (b[row + 2 * n + j] as number) +
        c3 * (b[row + 3 * n + j] as number);
    }
  }
  for (; k < depth; k++) addScaledRow(b, k * n, n, factor(k), out);
}

function addScaledRow(b: Float32Array, start: number, n: number, factor: number, out: Float32Array): void {
  for (let j = 0; j < n; j++) out[j] = (out[j] as number) + factor * (b[start + j] as number);
}

function scaleBy(values: Float32Array, scale: number): void {
  for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) * scale;
}

async function matmul(
  a: Float32Array,
  b: Float32Array,
  m: number,
  k: number,
  n: number,
  out: Float32Array,
  scale: number,
  accumulate: boolean,
): Promise<void> {
  checkMatmul(a, b, m, k, n, out);
  const factor = Math.fround(scale);
  await inSlices(m, 1, undefined, (row) => {
    const target = out.subarray(row * n, (row + 1) * n);
    if (!accumulate) target.fill(0);
    addProductRow(a, row * k, k, b, n, factor, target);
  });
}

async function convert(source: Uint8Array, from: FloatDtype, target: Uint8Array, to: FloatDtype, count: number, scale = 1): Promise<void> {
  checkConvert(source, from, target, to, count, scale);
  if (from === to && scale === 1) {
    const bytes = count * dtypeBytes[from];
    if (source !== target) target.set(source.subarray(0, bytes));
    return;
  }
  const values = from === "F64" ? new Float64Array(Math.min(count, blockElements)) : new Float32Array(Math.min(count, blockElements));
  const factor = from === "F64" ? scale : Math.fround(scale);
  await inSlices(count, blockElements, undefined, (start, end) => {
    const block = values.subarray(0, end - start);
    if (block instanceof Float64Array) block.set(view(Float64Array, source, start, end - start));
    else decodeTo(source, from, start, end - start, block);
    if (factor !== 1) for (let i = 0; i < block.length; i++) block[i] = (block[i] as number) * factor;
    encodeFrom(block, target, to, start);
  });
}

async function firstNonFinite(source: Uint8Array, dtype: FloatDtype, count: number): Promise<number> {
  checkCount("count", count);
  checkBytes("source", source, dtype, count);
  const values = new Float32Array(dtype === "F64" ? 0 : Math.min(count, blockElements));
  let found = -1;
  await inSlices(count, blockElements, undefined, (start, end) => {
    if (found >= 0) return;
    const block = dtype === "F64" ? view(Float64Array, source, start, end - start) : values.subarray(0, end - start);
    if (block instanceof Float32Array) decodeTo(source, dtype, start, end - start, block);
    const index = block.findIndex((value: number) => !Number.isFinite(value));
    if (index >= 0) found = start + index;
  });
  return found;
}

// Rotations from skew-symmetric blocks (Cayley transform), for OFT and BOFT.

import type { Kernels } from "@refit-sidecar/native";
import type { F32Tensor } from "./kind.ts";

/** Up to here a block is inverted directly in f64; larger ones are split, so that the work is products in the kernels. */
const directSize = 96;

/**
 * R = (I + q)(I - q)^-1 = 2 (I - q)^-1 - I per block, q = B - B^T, scaled down to the constraint when its norm over all blocks exceeds it.
 * Blocks [n, b, b] flat.
 */
export async function cayleyRotations(blocks: F32Tensor, constraint: number | null, kernels: Kernels): Promise<Float32Array> {
  const size = blocks.shape.at(-1) ?? 1;
  const area = size * size;
  const shrink = shrinkTo(blocks, size, constraint);
  const out = new Float32Array(blocks.data.length);
  for (let start = 0; start < out.length; start += area) {
    const matrix = new Float32Array(area);
    for (let row = 0; row < size; row += 1) {
      for (let col = 0; col < size; col += 1) {
        const skew = (blocks.data[start + row * size + col] ?? 0) - (blocks.data[start + col * size + row] ?? 0);
        matrix[row * size + col] = (row === col ? 1 : 0) - shrink * skew;
      }
    }
    const inverted = await inverse(matrix, size, kernels);
    for (let i = 0; i < area; i += 1) out[start + i] = 2 * (inverted[i] ?? 0) - (i % (size + 1) === 0 ? 1 : 0);
  }
  return out;
}

/** Factor that brings the norm of q, over all blocks, down to the constraint. */
function shrinkTo(blocks: F32Tensor, size: number, constraint: number | null): number {
  if (constraint === null || constraint <= 0) return 1;
  let squares = 0;
  for (let start = 0; start < blocks.data.length; start += size * size) {
    for (let row = 0; row < size; row += 1) {
      for (let col = 0; col < size; col += 1)
        squares += ((blocks.data[start + row * size + col] ?? 0) - (blocks.data[start + col * size + row] ?? 0)) ** 2;
    }
  }
  const norm = Math.sqrt(squares) + 1e-8;
  return norm > constraint ? constraint / norm : 1;
}

/**
 * Inverse of I minus a skew-symmetric matrix. Its symmetric part is I, and that of every leading block and Schur complement is at least I, so nothing needs
 * pivoting: [[A, B], [C, D]]^-1 from A^-1 and S^-1, S = D - C A^-1 B.
 */
async function inverse(matrix: Float32Array, size: number, kernels: Kernels): Promise<Float32Array> {
  if (size <= directSize) return directInverse(matrix, size);
  const head = size >> 1;
  const tail = size - head;
  const part = (rows: [number, number], cols: [number, number]): Float32Array => {
    const width = cols[1] - cols[0];
    const out = new Float32Array((rows[1] - rows[0]) * width);
    for (let row = rows[0]; row < rows[1]; row += 1)
      out.set(matrix.subarray(row * size + cols[0], row * size + cols[1]), (row - rows[0]) * width);
    return out;
  };
  const times = async (
    a: Float32Array,
    b: Float32Array,
    m: number,
    k: number,
    n: number,
    scale = 1,
    onto?: Float32Array,
  ): Promise<Float32Array> => {
    const out = onto ?? new Float32Array(m * n);
    await kernels.matmul(a, b, m, k, n, out, scale, onto !== undefined);
    return out;
  };
  const [b, c] = [part([0, head], [head, size]), part([head, size], [0, head])];
  const a = await inverse(part([0, head], [0, head]), head, kernels);
  const ab = await times(a, b, head, head, tail);
  const ca = await times(c, a, tail, head, head);
  const s = await inverse(await times(c, ab, tail, head, tail, -1, part([head, size], [head, size])), tail, kernels);
  const upperRight = await times(ab, s, head, tail, tail, -1);
  const lowerLeft = await times(s, ca, tail, tail, head, -1);
  // A^-1 + A^-1 B S^-1 C A^-1, from the corner just made.
  const upperLeft = await times(upperRight, ca, head, tail, head, -1, a);
  const out = new Float32Array(size * size);
  for (let row = 0; row < head; row += 1) {
    out.set(upperLeft.subarray(row * head, (row + 1) * head), row * size);
    out.set(upperRight.subarray(row * tail, (row + 1) * tail), row * size + head);
  }
  for (let row = 0; row < tail; row += 1) {
    out.set(lowerLeft.subarray(row * head, (row + 1) * head), (head + row) * size);
    out.set(s.subarray(row * tail, (row + 1) * tail), (head + row) * size + head);
  }
  return out;
}

/** Gauss-Jordan in f64, without pivoting (see above). */
function directInverse(matrix: Float32Array, size: number): Float32Array {
  const width = 2 * size;
  const work = new Float64Array(size * width);
  for (let row = 0; row < size; row += 1) {
    for (let col = 0; col < size; col += 1) work[row * width + col] = matrix[row * size + col] ?? 0;
    work[row * width + size + row] = 1;
  }
  for (let pivot = 0; pivot < size; pivot += 1) {
    const divisor = work[pivot * width + pivot] ?? 0;
    for (let col = pivot; col < width; col += 1) work[pivot * width + col] = (work[pivot * width + col] ?? 0) / divisor;
    for (let row = 0; row < size; row += 1) {
      const factor = work[row * width + pivot] ?? 0;
      if (row === pivot || factor === 0) continue;
      for (let col = pivot; col < width; col += 1)
        work[row * width + col] = (work[row * width + col] ?? 0) - factor * (work[pivot * width + col] ?? 0);
    }
  }
  const out = new Float32Array(size * size);
  for (let row = 0; row < size; row += 1)
    for (let col = 0; col < size; col += 1) out[row * size + col] = work[row * width + size + col] ?? 0;
  return out;
}

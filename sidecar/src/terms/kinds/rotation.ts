// Rotations from skew-symmetric blocks (Cayley transform), for OFT and BOFT.

import type { F32Tensor } from "./kind.ts";

/**
 * R = (I + q)(I - q)^-1 per block, q = B - B^T, scaled down to the constraint when its norm over all blocks exceeds it. Blocks [n, b, b] flat.
 * Solved in f64: the inverse is where an f32 block of a few hundred rows would lose digits.
 */
export function cayleyRotations(blocks: F32Tensor, constraint: number | null): Float32Array {
  const size = blocks.shape.at(-1) ?? 1;
  const area = size * size;
  const count = blocks.data.length / area;
  const q = new Float64Array(blocks.data.length);
  let squares = 0;
  for (let block = 0; block < count; block += 1) {
    const start = block * area;
    for (let row = 0; row < size; row += 1) {
      for (let col = 0; col < size; col += 1) {
        const value = (blocks.data[start + row * size + col] ?? 0) - (blocks.data[start + col * size + row] ?? 0);
        q[start + row * size + col] = value;
        squares += value * value;
      }
    }
  }
  const norm = Math.sqrt(squares) + 1e-8;
  const shrink = constraint !== null && constraint > 0 && norm > constraint ? constraint / norm : 1;
  const out = new Float32Array(q.length);
  for (let block = 0; block < count; block += 1) rotation(q.subarray(block * area, (block + 1) * area), size, shrink, out.subarray(block * area, (block + 1) * area));
  return out;
}

/** (I + q) and (I - q)^-1 commute, so R solves (I - q) R = (I + q): Gauss-Jordan with row pivoting. */
function rotation(q: Float64Array, size: number, shrink: number, out: Float32Array): void {
  const width = 2 * size;
  const work = new Float64Array(size * width);
  for (let row = 0; row < size; row += 1) {
    for (let col = 0; col < size; col += 1) {
      const value = shrink * (q[row * size + col] ?? 0);
      const unit = row === col ? 1 : 0;
      work[row * width + col] = unit - value;
      work[row * width + size + col] = unit + value;
    }
  }
  for (let pivot = 0; pivot < size; pivot += 1) {
    let best = pivot;
    for (let row = pivot + 1; row < size; row += 1) if (Math.abs(work[row * width + pivot] ?? 0) > Math.abs(work[best * width + pivot] ?? 0)) best = row;
    if (best !== pivot) {
      const held = work.slice(pivot * width, (pivot + 1) * width);
      work.copyWithin(pivot * width, best * width, (best + 1) * width);
      work.set(held, best * width);
    }
    const divisor = work[pivot * width + pivot] ?? 0;
    for (let col = pivot; col < width; col += 1) work[pivot * width + col] = (work[pivot * width + col] ?? 0) / divisor;
    for (let row = 0; row < size; row += 1) {
      const factor = work[row * width + pivot] ?? 0;
      if (row === pivot || factor === 0) continue;
      for (let col = pivot; col < width; col += 1) work[row * width + col] = (work[row * width + col] ?? 0) - factor * (work[pivot * width + col] ?? 0);
    }
  }
  for (let row = 0; row < size; row += 1) for (let col = 0; col < size; col += 1) out[row * size + col] = work[row * width + size + col] ?? 0;
}

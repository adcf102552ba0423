// Small pieces of tensor arithmetic that several kinds share. f32, row-major; products go through the kernels.

import type { Kernels } from "@refit-sidecar/native";
import { checkWorkingSize, columns, elements, type F32Tensor, type Shape } from "./kind.ts";

/** a[m,k] * b[k,n] with everything behind dimension 0 flattened. */
export async function product(kernels: Kernels, a: F32Tensor, b: F32Tensor): Promise<Float32Array> {
  const m = a.shape[0] ?? 1;
  const k = columns(a.shape);
  const n = columns(b.shape);
  const out = new Float32Array(m * n);
  await kernels.matmul(a.data, b.data, m, k, n, out, 1, false);
  return out;
}

/** [rows, cols] → [cols, rows]. */
export function transposed(data: Float32Array, rows: number, cols: number): Float32Array {
  const out = new Float32Array(rows * cols);
  for (let row = 0; row < rows; row += 1) for (let col = 0; col < cols; col += 1) out[col * rows + row] = data[row * cols + col] ?? 0;
  return out;
}

/** down'[a, i, x, y] = sum over b of mid[a, b, x, y] down[b, i]. */
export async function foldCore(kernels: Kernels, down: F32Tensor, mid: F32Tensor): Promise<F32Tensor> {
  const [a = 1, b = 1, ...kernel] = mid.shape;
  const size = elements(kernel);
  const inputs = down.shape[1] ?? 1;
  const downT = transposed(down.data, b, inputs);
  const out = new Float32Array(a * inputs * size);
  for (let index = 0; index < a; index += 1) {
    await kernels.matmul(
      downT,
      mid.data.subarray(index * b * size, (index + 1) * b * size),
      inputs,
      b,
      size,
      out.subarray(index * inputs * size, (index + 1) * inputs * size),
      1,
      false,
    );
  }
  return { shape: [a, inputs, ...kernel], data: out };
}

/**
 * Tucker form of LoHa and LoKr: out[p,r,…] = sum over i,j of t[i,j,…] b[j,r] a[i,p], shape [p, r, …].
 * Source: the einsum "i j k l, j r, i p -> p r k l" of ComfyUI's `loha.py` and `lokr.py`.
 */
export async function tuckerProduct(kernels: Kernels, t: F32Tensor, a: F32Tensor, b: F32Tensor): Promise<F32Tensor> {
  const { shape, data } = await foldCore(kernels, b, t);
  const [i = 1, ...rest] = shape;
  const [p, columns] = [a.shape[1] ?? 1, elements(rest)];
  const out = new Float32Array(p * columns);
  await kernels.matmul(transposed(a.data, i, p), data, p, i, columns, out, 1, false);
  return { shape: [p, ...rest], data: out };
}

/** What must hold for `tuckerProduct`; null when it does. */
export function checkTucker(t: Shape, a: Shape, b: Shape): string | null {
  if (t.length !== 4) return `the core has ${t.length} dimensions, expected 4 (a 2-D convolution)`;
  if (a.length !== 2 || b.length !== 2) return "the outer factors of a tucker form must have 2 dimensions";
  if (t[0] !== a[0] || t[1] !== b[0]) return `the core [${t.join(", ")}] does not fit the factors [${a.join(", ")}] and [${b.join(", ")}]`;
  return checkWorkingSize(Math.max((t[0] ?? 0) * (b[1] ?? 0), (a[1] ?? 0) * (b[1] ?? 0)) * elements(t.slice(2)));
}

/** Reads a broadcast operand: index in `small` of every element of `full`, right-aligned as in NumPy. Null when it does not broadcast. */
export function broadcastIndex(small: Shape, full: Shape): ((index: number) => number) | null {
  const offset = full.length - small.length;
  if (offset < 0) return null;
  const strides = new Array<number>(full.length).fill(0);
  let stride = 1;
  for (let dim = small.length - 1; dim >= 0; dim -= 1) {
    const size = small[dim] ?? 1;
    if (size !== 1 && size !== full[dim + offset]) return null;
    strides[dim + offset] = size === 1 ? 0 : stride;
    stride *= size;
  }
  return (index) => {
    let rest = index;
    let position = 0;
    for (let dim = full.length - 1; dim >= 0; dim -= 1) {
      const size = full[dim] ?? 1;
      position += (rest % size) * (strides[dim] ?? 0);
      rest = Math.floor(rest / size);
    }
    return position;
  };
}

/** Rows rearranged [second half; first half]; with an odd count the first half has one row more (torch's chunk). */
export function swapRowHalves(data: Float32Array, rows: number): Float32Array {
  const cols = rows === 0 ? 0 : data.length / rows;
  const first = Math.ceil(rows / 2) * cols;
  const out = new Float32Array(data.length);
  out.set(data.subarray(first), 0);
  out.set(data.subarray(0, first), data.length - first);
  return out;
}

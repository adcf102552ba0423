// DoRA: the patched view is rescaled to learned row or column magnitudes.

import { elements, shown, type F32Tensor, type Shape, type View } from "../kinds/kind.ts";
import { broadcastIndex } from "../kinds/tensor-math.ts";

/** torch.finfo(float32).eps: what ComfyUI adds to every norm. */
const epsilon = 1.1920929e-7;

export function checkDora(magnitude: Shape, view: Shape): string | null {
  if (magnitude.length === 0) return "dora_scale is a single number, expected one per row or column";
  if (view.length < 2 && magnitude[0] !== view[0])
    return `dora_scale ${shown(magnitude)} needs a parameter of at least 2 dimensions, it has the shape ${shown(view)}`;
  return broadcastIndex(magnitude, view) ? null : `dora_scale ${shown(magnitude)} does not fit the parameter's shape ${shown(view)}`;
}

/**
 * view += strength * (V m / n - view), V = view + change. A magnitude with as many rows as the view is on the output axis: n are the row norms
 * of the view *before* the change (of V with `norm` "merged", as PEFT trains it). Otherwise n are the norms of V over all dimensions but 1.
 * Source: ComfyUI `weight_adapter/base.py`, `weight_decompose`. `change` is consumed.
 */
export function applyDora(view: View, change: Float32Array, magnitude: F32Tensor, strength: number, norm: "before" | "merged"): void {
  const { data, shape } = view;
  for (let i = 0; i < change.length; i += 1) change[i] = (change[i] ?? 0) + (data[i] ?? 0);
  const onRows = magnitude.shape[0] === shape[0];
  // Index of an element's norm: its row, or its place in dimension 1.
  const inner = elements(shape.slice(onRows ? 1 : 2));
  const count = (onRows ? shape[0] : shape[1]) ?? 1;
  const norms = groupNorms(onRows && norm === "before" ? data : change, inner, count);
  const perNorm = magnitude.data.length === count && magnitude.shape.length === shape.length;
  const index = perNorm ? null : broadcastIndex(magnitude.shape, shape);
  const step = Math.fround(strength);
  for (let i = 0; i < change.length; i += 1) {
    const group = Math.floor(i / inner) % count;
    const ratio = Math.fround((magnitude.data[index ? index(i) : group] ?? 0) / (norms[group] ?? 1));
    const merged = Math.fround((change[i] ?? 0) * ratio);
    const before = data[i] ?? 0;
    data[i] = strength === 1 ? merged : before + step * Math.fround(merged - before);
  }
}

/** L2 norms of groups: element i belongs to group floor(i / inner) mod count. Summed in f64. */
function groupNorms(values: Float32Array, inner: number, count: number): Float32Array {
  const sums = new Float64Array(count);
  for (let i = 0; i < values.length; i += 1) {
    const group = Math.floor(i / inner) % count;
    const value = values[i] ?? 0;
    sums[group] = (sums[group] ?? 0) + value * value;
  }
  return Float32Array.from(sums, (sum) => Math.fround(Math.fround(Math.sqrt(sum)) + epsilon));
}

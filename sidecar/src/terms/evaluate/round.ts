// The one rounding at the end of a merge.

import type { FloatDtype, Kernels } from "@refit-sidecar/native";

export const bytesPerElement: Readonly<Record<FloatDtype, number>> = { F64: 8, F32: 4, F16: 2, BF16: 2, F8_E4M3: 1, F8_E5M2: 1 };

/** Largest finite value of the storage types that saturate instead of overflowing. */
const saturatesAt: Partial<Record<FloatDtype, number>> = { F8_E4M3: 448, F8_E5M2: 57344 };

/** An f32 array seen as bytes. */
export const asBytes = (values: Float32Array): Uint8Array => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/**
 * Rounds f32 values to nearest even into `out` and counts the ones that fp8 clamps. With `scale` (scaled fp8) value / scale is stored; the scale
 * itself is kept, as ComfyUI keeps it. ComfyUI rounds fp8 stochastically; nearest is within one step of that and the same on every run.
 */
export async function roundInto(
  values: Float32Array,
  out: Uint8Array,
  dtype: FloatDtype,
  scale: number,
  kernels: Kernels,
): Promise<number> {
  let source = values;
  if (scale !== 1) {
    source = new Float32Array(values.length);
    const divisor = Math.fround(scale);
    for (let i = 0; i < values.length; i += 1) source[i] = (values[i] ?? 0) / divisor;
  }
  const limit = saturatesAt[dtype];
  let saturated = 0;
  if (limit !== undefined) for (let i = 0; i < source.length; i += 1) if (Math.abs(source[i] ?? 0) > limit) saturated += 1;
  await kernels.convert(asBytes(source), "F32", out, dtype, source.length);
  return saturated;
}

/** Values of an output that are Inf or NaN: those that the base's are not (overflow of the output's type, or a calculation that left the numbers), and those that it has too. */
export interface NotFinite {
  readonly made: number;
  readonly kept: number;
}

/** A first look is one pass of the kernel; values are counted one by one only when it finds some. Bases of another size (a pad) count as finite, and so does no base. */
export async function notFiniteOf(
  base: { readonly data: Uint8Array; readonly dtype: FloatDtype } | null,
  out: { readonly data: Uint8Array },
  dtype: FloatDtype,
  kernels: Kernels,
): Promise<NotFinite> {
  const count = out.data.byteLength / bytesPerElement[dtype];
  if ((await kernels.firstNonFinite(out.data, dtype, count)) < 0) return { made: 0, kept: 0 };
  const values = new Float32Array(count);
  await kernels.convert(out.data, dtype, asBytes(values), "F32", count);
  const before = new Float32Array(base !== null && base.data.byteLength / bytesPerElement[base.dtype] === count ? count : 0);
  if (base !== null && before.length > 0) await kernels.convert(base.data, base.dtype, asBytes(before), "F32", count);
  let made = 0;
  let kept = 0;
  for (let i = 0; i < count; i += 1) {
    if (Number.isFinite(values[i])) continue;
    if (Number.isFinite(before[i] ?? 0)) made += 1;
    else kept += 1;
  }
  return { made, kept };
}

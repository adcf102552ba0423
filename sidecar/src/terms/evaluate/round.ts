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
export async function roundInto(values: Float32Array, out: Uint8Array, dtype: FloatDtype, scale: number, kernels: Kernels): Promise<number> {
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

import { native, type FloatDtype } from "@refit-sidecar/native";
import { readMergeable, readStored, type StoredParameter } from "../../src/storage/index.ts";
import { mergeParameter } from "../../src/terms/index.ts";
import type { BufferPool } from "./buffer-pool.ts";
import type { DeltaFile } from "./delta-file.ts";
import { hostFailure } from "./host-failure.ts";
import { exchangeHalves, type ParameterLayout } from "./refit-map.ts";
import { elementBytes, type HeldDtype } from "./weight-table.ts";

const containerDtype: Readonly<Record<HeldDtype, FloatDtype>> = { f32: "F32", f16: "F16", bf16: "BF16" };

export interface MergedParameter {
  readonly bytesRead: number;
  /** Values that are NaN or infinite. The parameter may not serve then. */
  readonly notFinite: number;
}

/**
 * Computes one parameter from its pristine base and the stack into `out` (engine layout and dtype, one rounding). `out` may be live memory: nothing is read
 * from it. Throws HOST_SHAPE_MISMATCH when a term does not fit.
 */
export async function mergeInto(
  layout: ParameterLayout,
  base: StoredParameter,
  deltas: readonly DeltaFile[],
  dtype: HeldDtype,
  out: Uint8Array,
  pool: BufferPool,
  signal: AbortSignal,
): Promise<MergedParameter> {
  const outDtype = containerDtype[dtype];
  const parts = deltas
    .map((delta) => ({ adapter: delta.sha256, addends: delta.addends(layout.name, layout.shape) }))
    .filter((part) => part.addends.length > 0);
  if (parts.length === 0 && base.pieces.every(({ piece }) => piece.dtype === outDtype && piece.storage === undefined)) {
    await readStored(base, out);
  } else {
    let stored: Uint8Array<ArrayBuffer> | null = null;
    try {
      const { data, dtype: baseDtype, scale } = await readMergeable(base, (bytes) => (stored = pool.take(bytes)));
      const outcome = await mergeParameter({
        base: { data, dtype: baseDtype, shape: layout.shape, scale },
        addends: parts.flatMap((part) => part.addends),
        out: { dtype: outDtype, data: out },
        kernels: native,
        signal,
      });
      const [left] = outcome.skipped;
      if (left !== undefined)
        throw hostFailure("HOST_SHAPE_MISMATCH", `an adapter does not fit ${layout.name}: ${left.reason}`, { parameter: layout.name });
    } finally {
      if (stored !== null) pool.give(stored);
    }
  }
  const notFinite =
    (await native.firstNonFinite(out, outDtype, layout.elements)) < 0 ? 0 : await countNotFinite(out, outDtype, layout.elements);
  exchangeHalves(layout, out, elementBytes[dtype]);
  return { bytesRead: base.bytes, notFinite };
}

async function countNotFinite(values: Uint8Array, dtype: FloatDtype, count: number): Promise<number> {
  const floats = new Float32Array(count);
  await native.convert(values, dtype, new Uint8Array(floats.buffer), "F32", count);
  return floats.reduce((sum, value) => sum + (Number.isFinite(value) ? 0 : 1), 0);
}

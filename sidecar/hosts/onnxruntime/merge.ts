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
  /** Terms that were left out, as ComfyUI leaves them out. */
  readonly failed: readonly { readonly adapter: string; readonly reason: string }[];
}

/**
 * Computes one parameter from its pristine base and the stack into `out` (engine layout and dtype, one rounding). `out` may be live memory: nothing is read
 * from it. Throws HOST_NON_FINITE when a merged value is NaN or infinite.
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
  let failed: MergedParameter["failed"] = [];
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
      failed = outcome.skipped.map(({ term, reason }) => ({
        adapter: parts.find((part) => part.addends.some((addend) => addend.term === term))?.adapter ?? "",
        reason,
      }));
    } finally {
      if (stored !== null) pool.give(stored);
    }
  }
  const bad = await native.firstNonFinite(out, outDtype, layout.elements);
  if (bad >= 0) {
    throw hostFailure(
      "HOST_NON_FINITE",
      `expected finite weights, ${layout.name} becomes NaN or infinite at element ${bad} in ${dtype}; remove the adapter or lower its strength`,
      {
        parameter: layout.name,
        element: bad,
        adapters: parts.map((part) => part.adapter),
      },
    );
  }
  exchangeHalves(layout, out, elementBytes[dtype]);
  return { bytesRead: base.bytes, failed };
}

import { native } from "@refit-sidecar/native";
import type { FloatDtype } from "@refit-sidecar/native";
import type { WeightDtype } from "@refit-sidecar/protocol";
import type { BaseTensor } from "./checkpoint-file.ts";
import type { DeltaFile } from "./delta-file.ts";
import { evaluate, type Addend } from "./evaluate.ts";
import { hostFailure } from "./host-failure.ts";
import type { ParameterLayout } from "./refit-map.ts";
import { exchangeHalves } from "./refit-map.ts";
import type { BufferPool } from "./buffer-pool.ts";
import { elementBytes } from "./weight-store.ts";

const containerDtype: Readonly<Record<WeightDtype, FloatDtype>> = { f32: "F32", f16: "F16", bf16: "BF16" };

export interface MergeOutcome {
  readonly bytesRead: number;
  readonly failed: readonly { readonly adapter: string; readonly reason: string }[];
}

/**
 * Computes one parameter from its pristine base and the stack into `out` (engine layout and dtype, one rounding). `out` may be live memory: nothing is read
 * from it. Throws HOST_NON_FINITE when a merged value is NaN or infinite.
 */
export async function mergeParameter(layout: ParameterLayout, base: BaseTensor, deltas: readonly DeltaFile[], dtype: WeightDtype, out: Uint8Array, pool: BufferPool, signal: AbortSignal): Promise<MergeOutcome> {
  const outDtype = containerDtype[dtype];
  const addends: Addend[] = [];
  for (const delta of deltas) {
    for (const term of delta.terms.get(layout.name) ?? []) addends.push({ adapter: delta.sha256, strength: delta.strength, term, factors: await delta.factors(term) });
  }
  let failed: MergeOutcome["failed"] = [];
  if (addends.length === 0 && base.dtype === outDtype && base.scale === 1) {
    await base.readInto(out);
  } else {
    const stored = pool.take(base.bytes);
    try {
      await base.readInto(stored);
      signal.throwIfAborted();
      if (addends.length === 0) await native.convert(stored, base.dtype, out, outDtype, base.elements, base.scale);
      else failed = await evaluate({ layout, base: stored, baseDtype: base.dtype, baseScale: base.scale, addends, out, outDtype, signal });
    } finally {
      pool.give(stored);
    }
  }
  const bad = await native.firstNonFinite(out, outDtype, layout.elements);
  if (bad >= 0) {
    throw hostFailure("HOST_NON_FINITE", `expected finite weights, ${layout.name} becomes NaN or infinite at element ${bad} in ${dtype}; remove the adapter or lower its strength`, {
      parameter: layout.name,
      element: bad,
      adapters: [...new Set(addends.map((addend) => addend.adapter))],
    });
  }
  exchangeHalves(layout, out, elementBytes[dtype]);
  return { bytesRead: base.bytes, failed };
}

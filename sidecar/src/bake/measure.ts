// What merging one adapter into a checkpoint would keep of it, without writing anything.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openStack, addendsOf } from "./stack.ts";
import { LossLedger, formatName } from "./loss-report.ts";
import type { LossReport } from "./loss-report.ts";
import type { BaseModel } from "./base.ts";
import { computeParameter } from "./parameter.ts";
import { nearest } from "../storage/index.ts";

/** Loss of an adapter in the way that the base is stored, to nearest; null when it changes nothing. Reads and computes every parameter that it touches. Throws what `bake` throws. */
export async function measureAdapter(
  base: BaseModel,
  adapter: { readonly path: string; readonly strength: number },
  signal?: AbortSignal,
): Promise<LossReport | null> {
  const scratch = await mkdtemp(join(tmpdir(), "refit-inspect-"));
  const stack = await openStack(base, [adapter], { mode: "comfyui", folder: scratch, ...(signal ? { signal } : {}) });
  try {
    const ledger = new LossLedger();
    for (const name of new Set(stack.flatMap(({ ready }) => ready.header.terms.map((term) => term.target.parameter)))) {
      const place = base.source.parameters[name];
      const [piece] = place?.pieces ?? [];
      if (place === undefined || piece === undefined) continue;
      const output = await computeParameter({
        name,
        stored: base.stored.parameter(name, place.shape),
        addends: addendsOf(stack, name),
        dtype: null,
        rounding: nearest,
        ...(signal ? { signal } : {}),
      });
      if (output.loss !== null) ledger.add(name, output.loss, formatName(piece, null));
    }
    return ledger.whole();
  } finally {
    for (const { delta } of stack) await delta.close();
    await rm(scratch, { recursive: true, force: true });
  }
}

// How much of each adapter the output has, for the report: in numbers by parameter and as a whole, and in words.

import type { FloatDtype } from "@refit-sidecar/native";
import type { ParameterPiece } from "../storage/index.ts";
import { addLoss, keptOf, noLoss } from "../terms/index.ts";
import type { Kept, LossSums, MergeLoss } from "../terms/index.ts";

export interface LossReport extends Kept {
  /** What the values are stored in, where most of the change went. */
  readonly format: string;
  readonly parameters: readonly ({ readonly parameter: string } & Kept)[];
}

/** Below this part of an adapter, or above this loss, its effect is not the one that it was made for. A bf16 file loses 0.7 of an update of 0.3 of its steps. */
const leastKept = 0.8;
const mostLost = 0.7;

/** How people call a way of storing. */
export function formatName(piece: ParameterPiece, dtype: FloatDtype | null): string {
  if (dtype === null && piece.storage !== undefined && piece.storage.format !== "scaled") return piece.storage.format;
  const stored = dtype ?? piece.dtype;
  if (stored === "F8_E4M3" || stored === "F8_E5M2") return `fp8 ${stored.slice(3).toLowerCase()}`;
  if (stored === "I8") return piece.storage?.rotation === undefined ? "int8" : "int8 convrot";
  return stored.toLowerCase();
}

interface Tally {
  readonly total: LossSums;
  readonly parameters: ({ readonly parameter: string } & Kept)[];
  readonly formats: Map<string, number>;
}

/** Collects the loss of parameter after parameter. */
export class LossLedger {
  readonly #whole = newTally();
  readonly #adapters = new Map<number, Tally>();

  add(parameter: string, { whole, adapters }: MergeLoss, format: string): void {
    record(this.#whole, parameter, whole, format);
    for (const [adapter, sums] of adapters) {
      const tally = this.#adapters.get(adapter) ?? newTally();
      this.#adapters.set(adapter, tally);
      record(tally, parameter, sums, format);
    }
  }

  /** Of the whole stack; null when nothing was merged. */
  whole(): LossReport | null {
    return reportOf(this.#whole);
  }

  adapter(index: number): LossReport | null {
    const tally = this.#adapters.get(index);
    return tally === undefined ? null : reportOf(tally);
  }
}

function newTally(): Tally {
  return { total: noLoss(), parameters: [], formats: new Map() };
}

function record(tally: Tally, parameter: string, sums: LossSums, format: string): void {
  addLoss(tally.total, sums);
  tally.parameters.push({ parameter, ...keptOf(sums) });
  tally.formats.set(format, (tally.formats.get(format) ?? 0) + (sums[0] ?? 0));
}

function reportOf({ total, parameters, formats }: Tally): LossReport | null {
  const [most] = [...formats].sort((a, b) => b[1] - a[1]);
  return most === undefined
    ? null
    : { format: most[0], ...keptOf(total), parameters: [...parameters].sort((a, b) => (a.parameter < b.parameter ? -1 : 1)) };
}

/** "31 % of this LoRA survives in bf16", and what to do when that is little. Empty when there is nothing to say. */
export function lossText({ format, keptProjection, lostShare }: LossReport): readonly string[] {
  if (keptProjection === null || lostShare === null) return [];
  const said = `${(keptProjection * 100).toFixed(0)} % of this LoRA survives in ${format}; rounding errors are ${lostShare.toPrecision(2)} times its size`;
  if (keptProjection >= leastKept && lostShare <= mostLost) return [said];
  const wider = format === "f16" || format === "bf16" ? "--dtype f32" : "--dtype bf16, or f16 or f32 where bf16 still loses much";
  return [
    said,
    `warning: this file does not have the effect that the adapter was made for. Write it with ${wider}, or leave it out of the file and use it on a live engine`,
  ];
}

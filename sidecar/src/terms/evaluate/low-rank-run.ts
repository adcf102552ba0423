// Consecutive plain low-rank terms in one pass: base conversion, all products and one rounding inside the kernel.

import type { FloatDtype, Kernels, LowRankFactor } from "@refit-sidecar/native";
import { columns, type Shape } from "../kinds/kind.ts";
import { lowRankFactors } from "../kinds/low-rank.ts";
import { swapRowHalves } from "../kinds/tensor-math.ts";
import type { LowRankAddend } from "./addend.ts";
import { bytesPerElement } from "./round.ts";

/** Rows [start, end) of the parameter and the matrices that add to them; `up` holds the rows of the whole addend. */
interface PreparedAddend {
  readonly start: number;
  readonly end: number;
  readonly factor: LowRankFactor;
}

export interface LowRankRun {
  readonly base: Uint8Array;
  readonly baseDtype: FloatDtype;
  readonly baseScale: number;
  readonly out: Uint8Array;
  readonly outDtype: FloatDtype;
  readonly shape: Shape;
  readonly addends: readonly LowRankAddend[];
  readonly kernels: Kernels;
  /** Loss is added here, as in the kernel's job. */
  readonly loss?: Float64Array;
  readonly signal?: AbortSignal;
}

/** Whether up has a row per row of the view and down a column per column: what the kernel takes. A mere reshape goes the general way. */
export function fitsKernel(up: Shape, down: Shape, view: Shape): boolean {
  return up[0] === view[0] && columns(down) === columns(view);
}

/** out = round(base * baseScale + sum of the addends). Terms on rows (fused projections) split the parameter where their sets differ. */
export async function mergeLowRankRun(run: LowRankRun): Promise<void> {
  const rows = run.shape[0] ?? 1;
  const cols = columns(run.shape);
  const prepared: PreparedAddend[] = [];
  for (const addend of run.addends) prepared.push(await prepare(addend, rows, run.kernels));
  const edges = [...new Set([0, rows, ...prepared.flatMap(({ start, end }) => [start, end])])].sort((a, b) => a - b);
  for (const [index, start] of edges.slice(0, -1).entries()) {
    const end = edges[index + 1] ?? rows;
    const factors = prepared
      .filter((addend) => addend.start <= start && end <= addend.end)
      .map(({ start: first, factor }) => ({
        ...factor,
        up: factor.up.subarray((start - first) * factor.rank, (end - first) * factor.rank),
      }));
    const part = (bytes: Uint8Array, dtype: FloatDtype): Uint8Array =>
      bytes.subarray(start * cols * bytesPerElement[dtype], end * cols * bytesPerElement[dtype]);
    await run.kernels.mergeLowRank({
      base: part(run.base, run.baseDtype),
      baseDtype: run.baseDtype,
      baseScale: run.baseScale,
      out: part(run.out, run.outDtype),
      outDtype: run.outDtype,
      rows: end - start,
      cols,
      factors,
      ...(run.loss ? { loss: run.loss } : {}),
      ...(run.signal ? { signal: run.signal } : {}),
    });
  }
}

async function prepare(addend: LowRankAddend, rows: number, kernels: Kernels): Promise<PreparedAddend> {
  const { term, strength } = addend;
  const { up, down } = await lowRankFactors(term, { factors: addend.factors, kernels });
  const start = term.target.slice?.start ?? 0;
  const length = term.target.slice?.length ?? rows;
  const upData = term.target.swapHalves === true ? swapRowHalves(up.data, length) : up.data;
  return { start, end: start + length, factor: { up: upData, down: down.data, rank: down.shape[0] ?? 0, scale: strength * term.scale } };
}

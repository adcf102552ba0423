// How much of an intended change the stored weights really have, after the one rounding at the end.

import type { FloatDtype, Kernels } from "@refit-sidecar/native";
import { elements, type Shape } from "../kinds/kind.ts";
import { isPlainLowRank, type Addend } from "./addend.ts";
import { mergeLowRankRun } from "./low-rank-run.ts";
import { asBytes } from "./round.ts";

/** Sums over elements: change^2, change * error and error^2, where error = stored with - stored without - change. They add up over parameters. */
export type LossSums = Float64Array;

/** Of a parameter: the whole stack's, and each adapter's that changes it. The error is the stack's; an adapter's own change is what it is held against. */
export interface MergeLoss {
  readonly whole: LossSums;
  readonly adapters: ReadonlyMap<number, LossSums>;
}

export interface Kept {
  /** <applied, intended> / |intended|^2; null when nothing was intended. */
  readonly keptProjection: number | null;
  /** |applied - intended| / |intended|. */
  readonly lostShare: number | null;
}

export const noLoss = (): LossSums => new Float64Array(3);

export function keptOf([change = 0, dot = 0, error = 0]: LossSums): Kept {
  // Not a number where the change or the weights under it are not.
  if (!(change > 0) || !Number.isFinite(change + dot + error)) return { keptProjection: null, lostShare: null };
  return { keptProjection: 1 + dot / change, lostShare: Math.sqrt(error / change) };
}

export function addLoss(total: LossSums, part: LossSums): void {
  for (let i = 0; i < 3; i += 1) total[i] = (total[i] ?? 0) + (part[i] ?? 0);
}

/** Addends by the adapter that they belong to, in stack order. */
export function byAdapter(addends: readonly Addend[]): ReadonlyMap<number, readonly Addend[]> {
  const groups = new Map<number, Addend[]>();
  for (const addend of addends) {
    const list = groups.get(addend.adapter ?? 0);
    if (list === undefined) groups.set(addend.adapter ?? 0, [addend]);
    else list.push(addend);
  }
  return groups;
}

export interface LossRequest {
  /** f32, as the merge began and ended. `merged` null: the change is to be summed up from plain low-rank terms. */
  readonly base: Float32Array;
  readonly merged: Float32Array | null;
  /** Stored values without and with the change, decoded. `after` is used up. */
  readonly before: Float32Array;
  readonly after: Float32Array;
  readonly shape: Shape;
  readonly addends: readonly Addend[];
  readonly kernels: Kernels;
  /** The merge itself, for adapters whose change depends on what is there. */
  readonly apply: (base: Float32Array, addends: readonly Addend[]) => Promise<Float32Array>;
}

/** Computes the changes once more where there are several adapters: memory stays at a few arrays of the parameter's size. */
export async function measureLoss(request: LossRequest): Promise<MergeLoss> {
  const { base, merged, before, after, kernels, addends } = request;
  const whole = noLoss();
  const groups = byAdapter(addends);
  const change = merged === null ? await plainChange(request, addends) : difference(merged, base);
  const error = after;
  await kernels.lossOf({ before, change, after, error, sums: whole });
  if (groups.size <= 1) return { whole, adapters: new Map([...groups.keys()].map((adapter) => [adapter, whole])) };
  const adapters = new Map<number, LossSums>();
  let state = base;
  for (const [adapter, own] of groups) {
    const sums = noLoss();
    let ownChange: Float32Array;
    if (merged === null) {
      ownChange = await plainChange(request, own);
    } else {
      const next = await request.apply(state, own);
      ownChange = difference(next, state);
      state = next;
    }
    await kernels.lossOf({ before: null, change: ownChange, after: error, sums });
    adapters.set(adapter, sums);
  }
  return { whole, adapters };
}

function difference(a: Float32Array, b: Float32Array): Float32Array {
  const out = new Float32Array(a.length);
  for (let i = 0; i < out.length; i += 1) out[i] = (a[i] as number) - (b[i] as number);
  return out;
}

/** What plain low-rank terms add, summed from zero: exact where base + change would round. */
async function plainChange({ shape, kernels }: LossRequest, addends: readonly Addend[]): Promise<Float32Array> {
  const out = new Float32Array(elements(shape));
  await mergeLowRankRun({
    base: asBytes(new Float32Array(out.length)),
    baseDtype: "F32",
    baseScale: 1,
    out: asBytes(out),
    outDtype: "F32",
    shape,
    addends: addends.filter(isPlainLowRank),
    kernels,
  });
  return out;
}

/** Values of `bytes` as f32. */
export async function decoded(bytes: Uint8Array, dtype: FloatDtype, count: number, kernels: Kernels, scale = 1): Promise<Float32Array> {
  const values = new Float32Array(count);
  await kernels.convert(bytes, dtype, asBytes(values), "F32", count, scale);
  return values;
}

// One parameter: pristine base, addends in stack order, one rounding. Used by engine hosts and by `merge` alike.

import type { FloatDtype, Kernels } from "@refit-sidecar/native";
import { Failure } from "../../failure/index.ts";
import { elements, shown, type Shape, type View } from "../kinds/kind.ts";
import { padded } from "../kinds/low-rank.ts";
import { withKind } from "../kinds/table.ts";
import { swapRowHalves } from "../kinds/tensor-math.ts";
import type { Term } from "../types.ts";
import { isPlainLowRank, viewOf, viewShape, type Addend, type LowRankAddend } from "./addend.ts";
import { checkTerm, factorNames } from "./check-terms.ts";
import { applyDora } from "./dora.ts";
import { byAdapter, decoded, measureLoss, noLoss, type LossRequest, type LossSums, type MergeLoss } from "./loss.ts";
import { fitsKernel, mergeLowRankRun } from "./low-rank-run.ts";
import { asBytes, bytesPerElement, roundInto } from "./round.ts";

export interface MergeRequest {
  readonly base: {
    readonly data: Uint8Array;
    readonly dtype: FloatDtype;
    readonly shape: Shape;
    /** Scaled fp8: effective weight = stored * scale. 1 otherwise. */
    readonly scale?: number;
  };
  /** In stack order, each adapter's terms in its own order; all on this parameter. Empty restores the base. */
  readonly addends: readonly Addend[];
  readonly out: {
    readonly dtype: FloatDtype;
    /** Scaled fp8: value / scale is stored. 1 otherwise. */
    readonly scale?: number;
    /** Receives the bytes (an engine's own buffer); allocated when absent. */
    readonly data?: Uint8Array;
  };
  readonly kernels: Kernels;
  /** Also say how much of each adapter's change the stored values have. */
  readonly measure?: boolean;
  readonly signal?: AbortSignal;
}

export interface MergeOutcome {
  readonly data: Uint8Array;
  /** Differs from the base's only after a `padTo` term. */
  readonly shape: Shape;
  /** Values that fp8 clamped to its largest. */
  readonly saturated: number;
  /** Addends that no longer fitted (after a pad earlier in the stack): left out, as ComfyUI leaves them out. */
  readonly skipped: readonly { readonly term: Term; readonly reason: string }[];
  /** Null unless it was asked for, and for a parameter that a term pads: there is nothing to hold it against. */
  readonly loss: MergeLoss | null;
}

/** Throws Failure TERMS_SHAPE_CHANGED when a term pads the parameter and `out.data` cannot hold it; AbortError when cancelled. */
export async function mergeParameter(request: MergeRequest): Promise<MergeOutcome> {
  const { base, out } = request;
  const shape = base.shape;
  const { addends, skipped } = await fitting(request);
  if (out.dtype !== "F8_E4M3" && out.dtype !== "F8_E5M2" && (out.scale ?? 1) === 1 && (await allForKernel(addends, shape))) {
    const data = out.data ?? new Uint8Array(elements(shape) * bytesPerElement[out.dtype]);
    const whole = noLoss();
    await lowRankPass(request, addends.filter(isPlainLowRank), data, out.dtype, request.measure === true ? whole : undefined);
    return { data, shape, saturated: 0, skipped, loss: request.measure === true ? await kernelLoss(request, addends, data, whole) : null };
  }
  const merged = await mergeF32(request, addends);
  const bytes = merged.data.length * bytesPerElement[out.dtype];
  if (out.data && out.data.byteLength < bytes) {
    throw new Failure(
      "TERMS_SHAPE_CHANGED",
      `expected the parameter to keep the shape ${shown(shape)}, an adapter pads it to ${shown(merged.shape)}; rebuild the engine for the padded structure, or use \`merge\``,
      { shape, padded: merged.shape },
    );
  }
  const data = out.data ?? new Uint8Array(bytes);
  const saturated = await roundInto(merged.data, data, out.dtype, out.scale ?? 1, request.kernels);
  const loss =
    request.measure === true && merged.data.length === elements(shape) ? await roundedLoss(request, addends, merged.data, data) : null;
  return { data, shape: merged.shape, saturated, skipped, loss };
}

/** The kernel has summed the whole up; several adapters are told apart in a second look. */
async function kernelLoss(request: MergeRequest, addends: readonly Addend[], data: Uint8Array, whole: LossSums): Promise<MergeLoss> {
  const groups = [...byAdapter(addends).keys()];
  if (groups.length <= 1) return { whole, adapters: new Map(groups.map((adapter) => [adapter, whole])) };
  return { ...(await roundedLoss(request, addends, null, data)), whole };
}

/** Loss of values that were rounded to `out.dtype`; "before" is the base rounded in the same way. */
async function roundedLoss(
  request: MergeRequest,
  addends: readonly Addend[],
  merged: Float32Array | null,
  data: Uint8Array,
): Promise<MergeLoss> {
  const { base, out, kernels } = request;
  const count = elements(base.shape);
  const scale = out.scale ?? 1;
  const before = await decoded(base.data, base.dtype, count, kernels, base.scale ?? 1);
  const rounded = new Uint8Array(count * bytesPerElement[out.dtype]);
  await roundInto(before, rounded, out.dtype, scale, kernels);
  return lossOfStored(request, addends, {
    base: before,
    merged,
    before: await decoded(rounded, out.dtype, count, kernels, scale),
    after: await decoded(data, out.dtype, count, kernels, scale),
  });
}

/** Loss of values that are stored in another way than a float dtype; `merged` is what was stored. */
export async function lossOfStored(
  request: Pick<MergeRequest, "base" | "kernels" | "signal">,
  addends: readonly Addend[],
  values: Pick<LossRequest, "base" | "merged" | "before" | "after">,
): Promise<MergeLoss> {
  const { shape } = request.base;
  // The sum of plain terms is more exact than the difference that it made to f32 values.
  const merged = (await allForKernel(addends, shape)) ? null : values.merged;
  const apply = async (state: Float32Array, own: readonly Addend[]): Promise<Float32Array> =>
    (
      await mergeF32(
        {
          base: { data: asBytes(state), dtype: "F32", shape },
          addends: own,
          out: { dtype: "F32" },
          kernels: request.kernels,
          ...(request.signal ? { signal: request.signal } : {}),
        },
        own,
      )
    ).data;
  return measureLoss({ ...values, merged, shape, addends, kernels: request.kernels, apply });
}

/** Leaves out what does not fit the shape that the parameter has when its turn comes. */
async function fitting({ addends, base }: MergeRequest): Promise<{ addends: Addend[]; skipped: { term: Term; reason: string }[] }> {
  let shape = base.shape;
  const fit: Addend[] = [];
  const skipped: { term: Term; reason: string }[] = [];
  for (const addend of addends) {
    const { term } = addend;
    const shapes = new Map<string, Shape>();
    for (const name of factorNames(term)) shapes.set(name, (await addend.factors(name)).shape);
    const reason = checkTerm(term, (name) => shapes.get(name) ?? [], shape);
    if (reason !== null) {
      skipped.push({ term, reason });
      continue;
    }
    fit.push(addend);
    if (term.kind === "lowRank" && term.padTo) shape = term.padTo;
  }
  return { addends: fit, skipped };
}

async function allForKernel(addends: readonly Addend[], shape: Shape): Promise<boolean> {
  for (const addend of addends) if (!(await forKernel(addend, shape))) return false;
  return true;
}

async function forKernel(addend: Addend, shape: Shape): Promise<boolean> {
  if (!isPlainLowRank(addend)) return false;
  const { term } = addend;
  const view = viewShape(term, shape);
  const up = (await addend.factors(term.up)).shape;
  if (term.mid !== undefined) return up[0] === view[0];
  return fitsKernel(up, (await addend.factors(term.down)).shape, view);
}

async function lowRankPass(
  request: MergeRequest,
  addends: readonly LowRankAddend[],
  out: Uint8Array,
  outDtype: FloatDtype,
  loss?: LossSums,
): Promise<void> {
  const { base, kernels, signal } = request;
  if (addends.length === 0) return kernels.convert(base.data, base.dtype, out, outDtype, elements(base.shape), base.scale ?? 1);
  await mergeLowRankRun({
    base: base.data,
    baseDtype: base.dtype,
    baseScale: base.scale ?? 1,
    out,
    outDtype,
    shape: base.shape,
    addends,
    kernels,
    ...(loss ? { loss } : {}),
    ...(signal ? { signal } : {}),
  });
}

/** The f32 way: a leading run of plain low-rank terms in one pass, the rest one by one. */
async function mergeF32(request: MergeRequest, addends: readonly Addend[]): Promise<View> {
  const leading: LowRankAddend[] = [];
  for (const addend of addends) {
    if (!isPlainLowRank(addend) || !(await forKernel(addend, request.base.shape))) break;
    leading.push(addend);
  }
  let parameter: View = { shape: request.base.shape, data: new Float32Array(elements(request.base.shape)) };
  await lowRankPass(request, leading, asBytes(parameter.data), "F32");
  for (const addend of addends.slice(leading.length)) {
    request.signal?.throwIfAborted();
    if (addend.term.kind === "lowRank" && addend.term.padTo) parameter = padded(parameter, addend.term.padTo);
    await applyAddend(addend, viewOf(addend.term, parameter), request.kernels);
  }
  return parameter;
}

async function applyAddend(addend: Addend, view: View, kernels: Kernels): Promise<void> {
  const { term, strength, factors } = addend;
  const change = await withKind(term, (kind, own) => kind.change(own, view, { factors, kernels, strength }));
  if (change === null) return;
  const values = term.target.swapHalves === true ? swapRowHalves(change.values, view.shape[0] ?? 1) : change.values;
  if (term.doraScale === undefined) {
    const scale = Math.fround(strength * change.scale);
    for (let i = 0; i < values.length; i += 1) view.data[i] = (view.data[i] ?? 0) + Math.fround(scale * (values[i] ?? 0));
    return;
  }
  const scale = Math.fround(change.scale);
  for (let i = 0; i < values.length; i += 1) values[i] = scale * (values[i] ?? 0);
  applyDora(view, values, await factors(term.doraScale), strength, term.doraNorm === "merged" ? "merged" : "before");
}

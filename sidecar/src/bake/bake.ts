import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { dtypeBytes, isFloatDtype, native, writeSafetensors } from "@refit-sidecar/native";
import type { FloatDtype, TensorSource } from "@refit-sidecar/native";
import type { Family, ParameterSource } from "../catalog/index.ts";
import { ensureDelta } from "../delta/index.ts";
import type { ReadyDelta } from "../delta/index.ts";
import { changesShape, f32Factors, mergeParameter, openDelta } from "../terms/index.ts";
import type { Addend, Delta, KeyReport, MergeMode, MergeOutcome } from "../terms/index.ts";
import { exchangedHalves, fileOf, openBase, piecesOf, readParameter } from "./base.ts";
import type { BaseModel } from "./base.ts";

export interface BakeJob {
  readonly base: string;
  readonly adapters: readonly { readonly path: string; readonly strength: number }[];
  readonly out: string;
  /** null: detected from the header. */
  readonly family: Family | null;
  /** Applies to the diffusion model's parameters; everything else in the file is copied as it is. */
  readonly dtype: "keep" | "f16" | "bf16" | "f32";
  readonly mode: MergeMode;
}

export interface AdapterReport extends KeyReport {
  /** File name, without its folder. */
  readonly adapter: string;
  readonly strength: number;
  readonly warnings: readonly string[];
  /** Keys with NaN or Inf: merged, as ComfyUI merges them, and said. */
  readonly nonFinite: readonly string[];
  /** Set when the adapter changes nothing in this base: the likely cause. */
  readonly problem: { readonly code: string; readonly message: string } | null;
}

export interface BakeReport {
  readonly out: string;
  readonly family: Family;
  readonly structure: string;
  readonly adapters: readonly AdapterReport[];
  /** Parameters that were written with other values than the base's. */
  readonly merged: number;
  /** fp8 values that were cut to the type's largest, by parameter. */
  readonly saturated: readonly { readonly parameter: string; readonly values: number }[];
  /** Terms that no longer fitted when their turn came. */
  readonly skipped: readonly { readonly parameter: string; readonly reason: string }[];
  readonly sizeBytes: number;
  readonly ms: number;
}

const floatOf: Readonly<Record<Exclude<BakeJob["dtype"], "keep">, FloatDtype>> = { f16: "F16", bf16: "BF16", f32: "F32" };

interface StackedDelta {
  readonly ready: ReadyDelta;
  readonly delta: Delta & { close(): Promise<void> };
  readonly strength: number;
}

export interface BakeOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/**
 * Merges a stack into a checkpoint and writes the result, with the code that a refit uses. One rounding, to the file's dtype or `dtype`. The output appears
 * whole or not at all. Throws what reading, packing and writing throw; keys that ComfyUI skips are in the report, never an error.
 */
export async function bake(job: BakeJob, options: BakeOptions = {}): Promise<BakeReport> {
  const started = performance.now();
  const base = await openBase(job.base, job.family);
  const scratch = await mkdtemp(join(tmpdir(), "refit-merge-"));
  const stack: StackedDelta[] = [];
  try {
    for (const { path, strength } of job.adapters) {
      const sha256 = await native.hashFile(path, options.signal);
      const target = { family: base.family, structure: base.structure, parameters: base.parameters };
      const ready = await ensureDelta({ adapter: { path, sha256 }, target, mode: job.mode, folder: scratch, base: base.source }, native, options.signal);
      stack.push({ ready, delta: await openDelta(await native.openTensorFile(ready.path)), strength });
    }
    const notes: Notes = { saturated: [], skipped: [], merged: 0 };
    const tensors = await plannedTensors(base, stack, job.dtype, notes, options.signal);
    const metadata = base.files[0]?.header.metadata ?? {};
    const { sizeBytes } = await writeSafetensors(job.out, tensors, metadata, options);
    for (const file of base.files) await file.checkUnchanged();
    return {
      out: job.out,
      family: base.family,
      structure: base.structure,
      adapters: stack.map(({ ready, strength }, index) => adapterReport(ready, strength, job.adapters[index]?.path ?? "")),
      merged: notes.merged,
      saturated: notes.saturated,
      skipped: notes.skipped,
      sizeBytes,
      ms: performance.now() - started,
    };
  } finally {
    for (const { delta } of stack) await delta.close();
    await base.close();
    await rm(scratch, { recursive: true, force: true });
  }
}

function adapterReport({ header, nonFinite }: ReadyDelta, strength: number, path: string): AdapterReport {
  return { adapter: basename(path), strength, ...header.report, warnings: header.warnings, nonFinite, problem: header.problem };
}

interface Notes {
  readonly saturated: { parameter: string; values: number }[];
  readonly skipped: { parameter: string; reason: string }[];
  merged: number;
}

function addendsOf(stack: readonly StackedDelta[], parameter: string): Addend[] {
  return stack.flatMap(({ ready, delta, strength }) => {
    // A reader per parameter: factors in f32 are dropped with it, so memory does not grow with the adapter.
    const factors = f32Factors((name) => delta.factor(name), native);
    return ready.header.terms.filter((term) => term.target.parameter === parameter).map((term) => ({ term, strength, factors }));
  });
}

/** Every tensor of the output, in the order of the base's files; values are computed when their turn to be written comes. */
async function plannedTensors(base: BaseModel, stack: readonly StackedDelta[], dtype: BakeJob["dtype"], notes: Notes, signal: AbortSignal | undefined): Promise<TensorSource[]> {
  const tensors: TensorSource[] = [];
  const placed = new Set<string>();
  const touched = new Set(stack.flatMap(({ ready }) => ready.header.terms.map((term) => term.target.parameter)));
  for (const [name, place] of Object.entries(base.source.parameters)) {
    const pieces = piecesOf(place);
    const convert = dtype !== "keep" && isFloatDtype(place.dtype) && place.dtype !== floatOf[dtype];
    if (!touched.has(name) && !convert) continue;
    const outDtype = dtype === "keep" || !isFloatDtype(place.dtype) ? place.dtype : floatOf[dtype];
    if (outDtype !== place.dtype) dropScale(base, place, placed);
    const addends = addendsOf(stack, name);
    let outcome: Promise<MergeOutcome> | null = null;
    const merged = () => (outcome ??= mergedParameter(base, name, addends, outDtype as FloatDtype, notes, signal));
    // A pad changes the shape, and the header comes before the values: such a parameter (one or two in a file) is computed first.
    const shape = addends.some(({ term }) => changesShape(term)) ? (await merged()).shape : place.shape;
    if (addends.length > 0) notes.merged += 1;
    let left = pieces.length;
    for (const piece of pieces) {
      placed.add(`${piece.file}:${piece.key}`);
      const fromFile = fileOf(base, piece.file).header.entries.get(piece.key);
      const ownShape = place.pieces === undefined ? shape : (fromFile?.shape ?? []);
      tensors.push({
        name: piece.key,
        dtype: outDtype,
        shape: ownShape,
        data: async () => {
          const { data } = await merged();
          const rowBytes = place.pieces === undefined ? 0 : data.byteLength / (place.shape[0] ?? 1);
          const rows = place.pieces === undefined ? data : data.slice(piece.start * rowBytes, (piece.start + piece.length) * rowBytes);
          left -= 1;
          // Written for good: let the values go before the next parameter is computed.
          if (left === 0) outcome = null;
          return piece.swapHalves ? exchangedHalves(rows) : rows;
        },
      });
    }
  }
  base.files.forEach((file, index) => {
    for (const entry of file.header.entries.values()) {
      if (!placed.has(`${index}:${entry.name}`)) tensors.push({ name: entry.name, dtype: entry.dtype, shape: entry.shape, data: () => file.read(entry.name) });
    }
  });
  return tensors;
}

/** Scaled fp8 that becomes a wider type loses its scale, the scale of its input and the file's marker: the values hold the scale now. */
function dropScale(base: BaseModel, { file, scaleKey }: ParameterSource, placed: Set<string>): void {
  if (scaleKey === undefined) return;
  placed.add(`${file}:${scaleKey}`);
  placed.add(`${file}:${scaleKey.replace(/scale_weight$/, "scale_input")}`);
  for (const name of fileOf(base, file).header.entries.keys()) if (name === "scaled_fp8" || name.endsWith(".scaled_fp8")) placed.add(`${file}:${name}`);
}

async function mergedParameter(base: BaseModel, name: string, addends: readonly Addend[], outDtype: FloatDtype, notes: Notes, signal: AbortSignal | undefined): Promise<MergeOutcome> {
  const { data, dtype, scale } = await readParameter(base, name);
  const shape = base.parameters.get(name) ?? [];
  const keepsScale = dtypeBytes[outDtype] === 1;
  const outcome = await mergeParameter({ base: { data, dtype, shape, scale }, addends, out: { dtype: outDtype, scale: keepsScale ? scale : 1 }, kernels: native, ...(signal ? { signal } : {}) });
  if (outcome.saturated > 0) notes.saturated.push({ parameter: name, values: outcome.saturated });
  for (const { reason } of outcome.skipped) notes.skipped.push({ parameter: name, reason });
  return outcome;
}

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { isFloatDtype, native, writeSafetensors } from "@refit-sidecar/native";
import type { Dtype, FloatDtype, TensorFile, TensorSource } from "@refit-sidecar/native";
import type { Family } from "../catalog/index.ts";
import type { ReadyDelta } from "../delta/index.ts";
import type { FailureCode } from "../failure/index.ts";
import { nearest, seedOf } from "../storage/index.ts";
import type { Rounding } from "../storage/index.ts";
import { notFiniteOf } from "../terms/index.ts";
import type { KeyReport, MergeMode } from "../terms/index.ts";
import { openBase } from "./base.ts";
import type { BaseModel } from "./base.ts";
import { LossLedger } from "./loss-report.ts";
import type { LossReport } from "./loss-report.ts";
import { addendsOf, openStack } from "./stack.ts";
import type { StackedDelta } from "./stack.ts";
import { keptMetadata, parameterTensors } from "./tensors.ts";
import type { Notes } from "./tensors.ts";

export interface BakeJob {
  readonly base: string;
  readonly adapters: readonly { readonly path: string; readonly strength: number }[];
  readonly out: string;
  /** null: detected from the header. */
  readonly family: Family | null;
  /** Applies to the diffusion model's parameters; everything else in the file is copied as it is. */
  readonly dtype: "keep" | "f16" | "bf16" | "f32";
  readonly mode: MergeMode;
  /** Of quantised weights: to the nearest code, or by chance as ComfyUI does (repeatable: the chance follows from the content). */
  readonly rounding: "nearest" | "stochastic";
}

export interface AdapterReport extends KeyReport {
  /** File name, without its folder. */
  readonly adapter: string;
  readonly strength: number;
  readonly warnings: readonly string[];
  /** Keys with NaN or Inf: merged, as ComfyUI merges them, and said. */
  readonly nonFinite: readonly string[];
  /** Set when the adapter changes nothing in this base: the likely cause. */
  readonly problem: { readonly code: FailureCode; readonly message: string } | null;
  /** How much of the adapter's change the output has; null when it changes nothing. */
  readonly loss: LossReport | null;
}

export interface BakeReport {
  readonly out: string;
  readonly family: Family;
  readonly structure: string;
  readonly adapters: readonly AdapterReport[];
  /** Parameters that were written with other values than the base's. */
  readonly merged: number;
  /** Values that the file's dtype cannot hold, by parameter: fp8 cuts them to its largest number, the others have no finite number for them (also in `overflowed`). */
  readonly saturated: readonly { readonly parameter: string; readonly values: number }[];
  /** Values that are Inf or NaN in the output and are not in the base: a model with one of them draws black pictures. */
  readonly overflowed: readonly { readonly parameter: string; readonly values: number; readonly dtype: FloatDtype }[];
  /** Values that are Inf or NaN in the base already and in the output, in whatever part of the file. */
  readonly baseNotFinite: readonly { readonly tensor: string; readonly values: number }[];
  /** Terms that no longer fitted when their turn came. */
  readonly skipped: readonly { readonly parameter: string; readonly reason: string }[];
  /** How much of the whole stack's change the output has. */
  readonly loss: LossReport | null;
  readonly sizeBytes: number;
  readonly ms: number;
}

const floatOf: Readonly<Record<Exclude<BakeJob["dtype"], "keep">, FloatDtype>> = { f16: "F16", bf16: "BF16", f32: "F32" };

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
  let stack: readonly StackedDelta[] = [];
  try {
    stack = await openStack(base, job.adapters, { mode: job.mode, folder: scratch, ...(options.signal ? { signal: options.signal } : {}) });
    const notes: Notes = { saturated: [], overflowed: [], baseNotFinite: [], skipped: [], merged: 0, loss: new LossLedger() };
    const tensors = await plannedTensors(base, stack, job, notes, options.signal);
    const metadata = keptMetadata(base, job.dtype !== "keep");
    const { sizeBytes } = await writeSafetensors(job.out, tensors, metadata, options);
    for (const file of base.files) await file.checkUnchanged();
    return {
      out: job.out,
      family: base.family,
      structure: base.structure,
      adapters: stack.map(({ ready, strength }, index) =>
        adapterReport(ready, strength, job.adapters[index]?.path ?? "", notes.loss.adapter(index)),
      ),
      merged: notes.merged,
      saturated: notes.saturated,
      overflowed: notes.overflowed,
      baseNotFinite: notes.baseNotFinite,
      skipped: notes.skipped,
      loss: notes.loss.whole(),
      sizeBytes,
      ms: performance.now() - started,
    };
  } finally {
    for (const { delta } of stack) await delta.close();
    await base.close();
    await rm(scratch, { recursive: true, force: true });
  }
}

function adapterReport({ header, nonFinite }: ReadyDelta, strength: number, path: string, loss: LossReport | null): AdapterReport {
  return { adapter: basename(path), strength, ...header.report, warnings: header.warnings, nonFinite, problem: header.problem, loss };
}

/** Every tensor of the output, in the order of the base's files; values are computed when their turn to be written comes. */
async function plannedTensors(
  base: BaseModel,
  stack: readonly StackedDelta[],
  job: BakeJob,
  notes: Notes,
  signal: AbortSignal | undefined,
): Promise<TensorSource[]> {
  const tensors: TensorSource[] = [];
  const placed = new Set<string>();
  const touched = new Set(stack.flatMap(({ ready }) => ready.header.terms.map((term) => term.target.parameter)));
  for (const [name, place] of Object.entries(base.source.parameters)) {
    const [piece] = place.pieces;
    const holdsNumbers = piece !== undefined && (piece.storage !== undefined || isFloatDtype(piece.dtype));
    const dtype = job.dtype === "keep" || !holdsNumbers ? null : floatOf[job.dtype];
    const converts = dtype !== null && (piece?.storage !== undefined || piece?.dtype !== dtype);
    if (!touched.has(name) && !converts) continue;
    tensors.push(
      ...(await parameterTensors({
        base,
        name,
        dtype: converts ? dtype : null,
        addends: addendsOf(stack, name),
        rounding: roundingOf(job, stack, name),
        notes,
        placed,
        signal,
      })),
    );
  }
  base.files.forEach((file, index) => {
    for (const entry of file.header.entries.values()) {
      if (!placed.has(`${index}:${entry.name}`))
        tensors.push({ name: entry.name, dtype: entry.dtype, shape: entry.shape, data: () => copied(file, entry, notes) });
    }
  });
  return tensors;
}

/** Bytes of a tensor that the output takes over as they are. */
async function copied(
  file: TensorFile,
  { name, dtype }: { readonly name: string; readonly dtype: Dtype },
  notes: Notes,
): Promise<Uint8Array> {
  const data = await file.read(name);
  const kept = isFloatDtype(dtype) ? (await notFiniteOf(null, { data }, dtype, native)).made : 0;
  if (kept > 0) notes.baseNotFinite.push({ tensor: name, values: kept });
  return data;
}

/** Chance follows from what is merged, so that the same job writes the same file. */
function roundingOf({ rounding }: BakeJob, stack: readonly StackedDelta[], name: string): Rounding {
  if (rounding !== "stochastic") return nearest;
  return {
    kind: "stochastic",
    seed: seedOf([name, ...stack.map(({ ready, strength }) => `${ready.header.adapter} ${strength}`)].join("\n")),
  };
}

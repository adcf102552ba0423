// Inner values as the wire shows them: ids instead of paths, caps on every list.

import { basename } from "node:path";
import type { WireResult } from "@refit-sidecar/protocol";
import type { WatchedFolder } from "../../arrivals/index.ts";
import type { CatalogEntry } from "../../catalog/index.ts";
import type { ReadyDelta } from "../../delta/index.ts";
import { Failure } from "../../failure/index.ts";
import type { JobInfo } from "../../jobs/index.ts";
import type { EngineSpec, EngineStatus, RefitRecord } from "../../refit/index.ts";
import type { DeltaState } from "../resolve/resolver.ts";

export type CatalogEntryView = WireResult<"catalog.get">["entry"];
export type EngineView = WireResult<"engine.list">["engines"][number];
export type JobView = WireResult<"jobs.list">["jobs"][number];
export type FolderView = WireResult<"folders.list">["folders"][number];

const listedKeys = 200;

/** Dtypes of weights in the wire's words. */
export const wirePrecision = { f32: "fp32", f16: "fp16", bf16: "bf16", fp8: "fp8", int8: "int8", nvfp4: "nvfp4" } as const;
export const weightDtypes = { fp32: "f32", fp16: "f16", bf16: "bf16", fp8: "fp8", int8: "int8", nvfp4: "nvfp4" } as const;

/** Dtype of a step's float tensors: quantised engines take and give bf16. */
export const floatDtype = { f32: "f32", f16: "f16", bf16: "bf16", fp8: "bf16", int8: "bf16", nvfp4: "bf16" } as const;

/** Dtype of a step's tensor at a port of a graph. "float" means the engine's own float type; what no step carries as it is travels as f32. */
export function portDtype(dtype: string, precision: EngineSpec["precision"]): "f32" | "f16" | "bf16" | "i64" {
  if (dtype === "float") return floatDtype[precision];
  return dtype === "i64" || dtype === "f16" || dtype === "bf16" ? dtype : "f32";
}

export function catalogEntryView(entry: CatalogEntry, delta: DeltaState): CatalogEntryView {
  return {
    id: entry.id,
    kind: entry.kind,
    name: entry.name,
    folder: entry.folder,
    sizeBytes: entry.sizeBytes,
    sha256: entry.identity?.sha256 ?? null,
    proof: entry.identity?.proof ?? null,
    family: entry.family,
    variant: entry.kind === "checkpoint" ? entry.variant : null,
    structure: entry.kind === "checkpoint" ? entry.structure : null,
    kinds: entry.kind === "adapter" ? [...entry.kinds] : [],
    delta: entry.kind === "adapter" ? delta : "none",
    problem: entry.problem,
  };
}

export function adapterReportView(adapter: string, ready: ReadyDelta): WireResult<"engine.prepare">["adapters"][number] {
  const { used, ignored, failed } = ready.header.report;
  return {
    adapter,
    sha256: ready.sha256,
    used: used.length,
    ignored: ignored.length,
    failed: failed.length,
    ignoredKeys: ignored.slice(0, listedKeys),
    failedKeys: failed.slice(0, listedKeys),
  };
}

export interface EngineFacts {
  readonly family: EngineView["family"];
  readonly device: string;
  readonly steps: number;
  readonly lastRefit: RefitRecord | null;
  /** Catalog id of the checkpoint that the weights come from, when it is still known. */
  readonly checkpointId: (state: string) => string | null;
}

/** A moment of this process's monotonic clock as a date. */
export const wallClockOf = (monotonicMs: number): string => new Date(Date.now() - (performance.now() - monotonicMs)).toISOString();

export function engineView(status: EngineStatus, facts: EngineFacts): EngineView {
  const { state } = status;
  const weights = "weights" in state ? state.weights : null;
  return {
    id: status.engine,
    structure: status.spec.structure,
    family: facts.family,
    precision: wirePrecision[status.spec.precision],
    host: status.spec.hostKind,
    device: facts.device,
    state: state.state,
    reason: "reason" in state ? state.reason.slice(0, 2000) : null,
    weights:
      weights === null
        ? null
        : {
            checkpoint: facts.checkpointId(weights.checkpoint) ?? weights.checkpoint,
            stack: weights.stack.map(({ sha256, strength }) => ({ sha256, strength })),
          },
    memoryBytes: status.bytes,
    leases: status.leases,
    steps: facts.steps,
    lastRefit:
      facts.lastRefit === null
        ? null
        : {
            at: wallClockOf(facts.lastRefit.atMs),
            ms: facts.lastRefit.prepareMs + facts.lastRefit.commitMs,
            writes: facts.lastRefit.writes,
          },
    serving:
      status.serving === null
        ? null
        : { ...status.serving, refused: status.serving.refused.map(({ steps, reason }) => ({ steps, reason: reason.slice(0, 2000) })) },
    losses: status.losses
      .slice(0, 200)
      .map(({ adapter, projection, lostShare, merged, branched }) => ({ adapter, projection, lostShare, merged, branched })),
  };
}

export function jobView(job: JobInfo): JobView {
  const problem =
    job.error === null
      ? null
      : job.error instanceof Failure
        ? { code: job.error.code, message: job.error.message.slice(0, 2000) }
        : { code: "JOB_FAILED", message: "the job failed; the sidecar's log has the reason" };
  return {
    id: job.id,
    kind: job.kind,
    title: job.title.slice(0, 2000),
    state: job.state,
    stage: job.stage,
    done: job.done,
    total: job.total,
    remainingMs: job.remainingMs,
    problem: job.state === "cancelled" ? null : problem,
  };
}

export function folderView(folder: WatchedFolder, entries: number, problem: FolderView["problem"]): FolderView {
  return { id: folder.key, kind: folder.kind === "adapter" ? "adapters" : "checkpoints", label: basename(folder.path), entries, problem };
}

// What the delta stage takes and gives.

import type { CheckpointSource, Family } from "../catalog/types.ts";
import type { DeltaHeader, MergeMode, Parameters } from "../terms/index.ts";

/** The structure that an adapter is packed for. */
export interface DeltaTarget {
  readonly family: Family;
  /** Structure hash (docs/develop/internals.md). */
  readonly structure: string;
  readonly parameters: Parameters;
}

export interface DeltaRequest {
  readonly adapter: {
    readonly path: string;
    /** Full content hash, taken before: a delta is cached under it. */
    readonly sha256: string;
    /** What the file was when it was hashed; packing refuses any other. */
    readonly stamp?: { readonly sizeBytes: number; readonly mtimeNs: string; readonly inode: string };
  };
  readonly target: DeltaTarget;
  readonly mode: MergeMode;
  /** Folder of cached deltas. */
  readonly folder: string;
  /** Needed only for files that hold whole modified weights (TensorRT-Redux). */
  readonly base?: CheckpointSource;
}

export interface ReadyDelta {
  readonly path: string;
  readonly sha256: string;
  readonly header: DeltaHeader;
  /** Keys of the adapter whose values include NaN or Inf: a live engine refuses the delta, `merge` says so. */
  readonly nonFinite: readonly string[];
  readonly fileBytes: number;
  /** From an earlier run, verified. */
  readonly cached: boolean;
}

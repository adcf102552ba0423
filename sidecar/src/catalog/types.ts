// Values that the catalog stage gives out. Derived from headers, and from the few bytes that describe quantised layers; weights are not read.

export type { CheckpointSource, ParameterPiece, ParameterSource } from "../storage/types.ts";

export type { Family } from "@refit-sidecar/protocol";
import type { Family } from "@refit-sidecar/protocol";
import type { FailureCode } from "../failure/index.ts";

/** Content identity of a file. A checkpoint may start on a sampled hash that is confirmed in the background. */
export interface Identity {
  readonly sha256: string;
  readonly proof: "full" | "sampled";
  /** Checkpoints: hash over length, header and samples. Known from the first sight on and kept when the full hash comes, so that a confirmation
   *  is not taken for a change (`contentKey`). */
  readonly sampled?: string;
}

export interface Problem {
  readonly code: FailureCode;
  readonly message: string;
}

/** Numbers of a model's layout that its header gives away (widths, depths, channels). */
export type ModelConfig = Readonly<Record<string, string | number | boolean | null | readonly number[]>>;

interface Entry {
  /** Opaque, at most 64 characters, the same on every start: a function of kind, folder and name. */
  readonly id: string;
  /** Key of the watched folder; null for an adapter that a client pushed. */
  readonly folder: string | null;
  /** Path relative to its folder, `/` separators, as found (not normalised). */
  readonly name: string;
  /** Never leaves the process. */
  readonly path: string;
  readonly sizeBytes: number;
  /** null while it is not hashed, and while the file is being written to. */
  readonly identity: Identity | null;
  readonly family: Family | null;
  readonly evidence: readonly string[];
  /** Why the entry cannot be used; null for one that can. */
  readonly problem: Problem | null;
}

export interface CheckpointEntry extends Entry {
  readonly kind: "checkpoint";
  readonly variant: string | null;
  /** SHA-256 over sorted `name\tdim,dim,...\n` lines of the diffusion model's canonical parameters. */
  readonly structure: string | null;
  readonly keyPrefix: string;
  readonly config: ModelConfig | null;
  /** Parameters of the diffusion model, and how they are stored. */
  readonly parameters: number;
  readonly dtypes: Readonly<Record<string, number>>;
  readonly format: "checkpoint" | "diffusers" | null;
  /** Shards; 1 for a single file. */
  readonly files: number;
}

export interface AdapterEntry extends Entry {
  readonly kind: "adapter";
  /** lora, loha, lokr, glora, oft, boft, dora, diff, norm, set, ia3. */
  readonly kinds: readonly string[];
  readonly tensors: number;
}

export type CatalogEntry = CheckpointEntry | AdapterEntry;

/** Immutable; a new object per change, with a growing generation. */
export interface CatalogSnapshot {
  readonly generation: number;
  readonly entries: ReadonlyMap<string, CatalogEntry>;
}

/** One step from a snapshot to the next. */
export interface CatalogChange {
  readonly snapshot: CatalogSnapshot;
  readonly added: readonly string[];
  readonly changed: readonly string[];
  readonly removed: readonly string[];
}

/** A name of the content that a confirmation does not change: the sampled hash where there is one. */
export function contentKey({ sampled, sha256 }: Identity): string {
  return sampled ?? sha256;
}

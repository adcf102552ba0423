// Values that the catalog stage gives out. Everything here is derived from headers; nothing is read from tensor data.

import type { Dtype } from "@refit-sidecar/native";

export type Family = "sd15" | "sd2" | "sdxl" | "sdxl-refiner" | "sd3" | "flux" | "wan";

/** Content identity of a file. A checkpoint may start on a sampled hash that is confirmed in the background. */
export interface Identity {
  readonly sha256: string;
  readonly proof: "full" | "sampled";
}

/** One parameter of a diffusion model as a checkpoint stores it. */
export interface ParameterSource {
  /** Index into `files`. */
  readonly file: number;
  readonly key: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Scaled fp8: key of the f32 scalar; effective weight = stored * scale. */
  readonly scaleKey?: string;
}

/** Where a checkpoint's canonical parameters lie. Sharded checkpoints have several files. */
export interface CheckpointSource {
  readonly files: readonly { readonly path: string; readonly sizeBytes: number; readonly mtimeNs: string; readonly inode: string }[];
  readonly parameters: Readonly<Record<string, ParameterSource>>;
}

export interface CheckpointEntry {
  readonly kind: "checkpoint";
  readonly id: string;
  /** Path relative to its folder, `/` separators, as found (not normalised). */
  readonly name: string;
  readonly path: string;
  readonly sizeBytes: number;
  readonly identity: Identity | null;
  readonly family: Family | null;
  readonly variant: string | null;
  /** SHA-256 over sorted `name\tdim,dim,...\n` lines of the diffusion model's canonical parameters. */
  readonly structure: string | null;
  readonly keyPrefix: string;
  readonly evidence: readonly string[];
  readonly problem: { readonly code: string; readonly message: string } | null;
}

export interface AdapterEntry {
  readonly kind: "adapter";
  readonly id: string;
  readonly name: string;
  readonly path: string;
  readonly sizeBytes: number;
  readonly identity: Identity | null;
  readonly family: Family | null;
  readonly kinds: readonly string[];
  readonly evidence: readonly string[];
  readonly problem: { readonly code: string; readonly message: string } | null;
}

export type CatalogEntry = CheckpointEntry | AdapterEntry;

/** Immutable; a new object per change, with a growing generation. */
export interface CatalogSnapshot {
  readonly generation: number;
  readonly entries: ReadonlyMap<string, CatalogEntry>;
}

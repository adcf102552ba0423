// Where a checkpoint's parameters lie in its files, and how their stored numbers become values.

import type { Dtype } from "@refit-sidecar/native";

/**
 * How a quantised tensor becomes values; absent for plain ones. All keys are tensors of the same file (docs/develop/quantised.md has the layouts byte by byte).
 * `scaled`: code * scale, one scale or one a row. `nvfp4`: packed E2M1 codes * block scale * scale2. `mxfp8`: code * 2^(block scale - 127).
 */
export interface Storage {
  readonly format: "scaled" | "nvfp4" | "mxfp8";
  readonly scale: string;
  /** nvfp4: the scale of the whole tensor. */
  readonly scale2?: string;
  /** One factor per column, multiplied onto the values (a layer that scales its input). */
  readonly columnScale?: string;
  /** Rows were rotated in groups of so many columns before they were quantised; the values are rotated back. */
  readonly rotation?: number;
}

/** A file tensor that holds rows of a parameter, or all of them. */
export interface ParameterPiece {
  readonly file: number;
  readonly key: string;
  /** Of the file's tensor. A packed or padded one has another shape than the rows that it holds. */
  readonly dtype: Dtype;
  /** First row of the parameter, and how many. */
  readonly start: number;
  readonly length: number;
  /** The tensor has the halves of dimension 0 in the other order. */
  readonly swapHalves: boolean;
  readonly storage?: Storage;
}

/** One parameter of a diffusion model as a checkpoint stores it. */
export interface ParameterSource {
  /** The layer's own shape: what a plain checkpoint stores. */
  readonly shape: readonly number[];
  /** In row order, covering dimension 0. One, unless the file keeps a fused parameter apart; all have one dtype and one format. */
  readonly pieces: readonly ParameterPiece[];
}

/** Where a checkpoint's canonical parameters lie. Sharded checkpoints have several files. */
export interface CheckpointSource {
  readonly files: readonly { readonly path: string; readonly sizeBytes: number; readonly mtimeNs: string; readonly inode: string }[];
  readonly parameters: Readonly<Record<string, ParameterSource>>;
}

/** Tensors of one file, or of all shards together. */
export type StoredTensors = ReadonlyMap<string, { readonly dtype: Dtype; readonly shape: readonly number[] }>;

/** What a header does not say and a few bytes of the file do. */
export interface StorageNotes {
  /** JSON text of `X.comfy_quant`, by X. */
  readonly descriptions: ReadonlyMap<string, string>;
  /** Shapes of padded tensors without their padding, by key. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
}

export const noNotes: StorageNotes = { descriptions: new Map(), shapes: new Map() };

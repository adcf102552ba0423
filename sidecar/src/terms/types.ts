// The term algebra: what an adapter does to parameters, as data. A delta file is a list of these plus their factors.
// Formulas and their sources: docs/develop/adapters.md.

import type { FloatDtype } from "@refit-sidecar/native";

/** Where a term acts: a parameter in canonical name (the checkpoint's own key without prefix), or rows of it. */
export interface Target {
  readonly parameter: string;
  /** Rows along dimension 0: the sub-view has its own shape and its own norms. */
  readonly slice?: { readonly start: number; readonly length: number };
  /** The delta's rows are rearranged [second half; first half] before adding (diffusers' scale/shift order). */
  readonly swapHalves?: boolean;
}

/** Name of a tensor inside the delta file. */
export type FactorName = string;

interface TermBase {
  readonly target: Target;
  /** DoRA magnitude; applies the DoRA tail to the term's delta. */
  readonly doraScale?: FactorName;
  /** PEFT divides by the row norms of the merged weight; ComfyUI (absent) by those of the weight before it on the output axis. */
  readonly doraNorm?: "merged";
  /** Keys of the adapter file that this term was made from, for reports. */
  readonly sourceKeys: readonly string[];
}

/** alpha / rank, or 1 when alpha is absent; strength is not included. */
type Scale = number;

/**
 * `strengthOnce` (OFT, extended mode): strength enters once and `rescale` counts, as the trainer means it; ComfyUI multiplies by the strength twice
 * and does not read `rescale`. `constraint` null: the file has no alpha.
 */
export type Term =
  | (TermBase & {
      readonly kind: "lowRank";
      readonly scale: Scale;
      readonly up: FactorName;
      readonly down: FactorName;
      readonly mid?: FactorName;
      readonly padTo?: readonly number[];
    })
  | (TermBase & {
      readonly kind: "hadamard";
      readonly scale: Scale;
      readonly w1a: FactorName;
      readonly w1b: FactorName;
      readonly w2a: FactorName;
      readonly w2b: FactorName;
      readonly t1?: FactorName;
      readonly t2?: FactorName;
    })
  | (TermBase & {
      readonly kind: "kronecker";
      readonly scale: Scale;
      readonly w1?: FactorName;
      readonly w1a?: FactorName;
      readonly w1b?: FactorName;
      readonly w2?: FactorName;
      readonly w2a?: FactorName;
      readonly w2b?: FactorName;
      readonly t2?: FactorName;
    })
  | (TermBase & {
      readonly kind: "glora";
      readonly scale: Scale;
      readonly a1: FactorName;
      readonly a2: FactorName;
      readonly b1: FactorName;
      readonly b2: FactorName;
    })
  | (TermBase & {
      readonly kind: "orthogonal";
      readonly variant: "oft" | "boft";
      readonly blocks: FactorName;
      readonly constraint: number | null;
      readonly rescale?: FactorName;
      readonly strengthOnce?: true;
    })
  | (TermBase & { readonly kind: "dense"; readonly value: FactorName })
  | (TermBase & { readonly kind: "set"; readonly value: FactorName })
  | (TermBase & { readonly kind: "channelScale"; readonly value: FactorName; readonly axis: "rows" | "columns" });

/** What happened to one key of the adapter file. */
export interface KeyReport {
  readonly used: readonly string[];
  readonly ignored: readonly { readonly key: string; readonly reason: string }[];
  readonly failed: readonly { readonly key: string; readonly reason: string }[];
}

/** One factor tensor of a delta, as stored (never narrowed without a reported error). */
export interface Factor {
  readonly dtype: FloatDtype | "I64" | "I32" | "U8";
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

export type MergeMode = "comfyui" | "extended";

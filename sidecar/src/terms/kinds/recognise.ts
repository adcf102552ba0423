// From the tensors of one adapted module to the terms they mean. Each kind has its own recogniser; the table orders them.

import type { FactorName, MergeMode, Term } from "../types.ts";
import type { Shape } from "./kind.ts";

/** Tensors of one module of an adapter file, by suffix behind the module's name. */
export interface ModuleTensors {
  has(suffix: string): boolean;
  /** Empty when there is no such tensor. */
  shape(suffix: string): Shape;
  /** Makes the tensor a factor of the delta; `shape` reads the same values in another shape of equal size. */
  factor(suffix: string, shape?: Shape): FactorName;
  /** Values of a small tensor (alpha, reshape_weight, on_input); undefined when there is none. */
  numbers(suffix: string): readonly number[] | undefined;
}

export interface RecogniseContext {
  readonly mode: MergeMode;
  /** From the file; null when absent. */
  readonly alpha: number | null;
  /** What the trainer's metadata says for a rank (extended mode); null when it says nothing. */
  readonly metadataScale: (rank: number) => number | null;
  /** Shape that the term would see; null when the checkpoint lacks the parameter. */
  readonly view: Shape | null;
}

type Body<T> = T extends Term ? Omit<T, "target" | "sourceKeys" | "doraScale" | "doraNorm"> : never;
export type TermBody = Body<Term>;

export interface Unreadable {
  readonly problem: string;
  /** ComfyUI finds out only while merging: until then the module holds its target against earlier spellings. */
  readonly holdsTarget: boolean;
}

/** One reading of a module: what was consumed and what came of it. */
export interface Reading {
  readonly used: readonly string[];
  /** Part of the module that the term is for. */
  readonly on: "weight" | "bias";
  readonly outcome: { readonly body: TermBody } | Unreadable;
  /** Consumed by ComfyUI and of no effect. */
  readonly unread?: readonly { readonly suffix: string; readonly reason: string }[];
}

export type Recogniser = (tensors: ModuleTensors, context: RecogniseContext) => readonly Reading[];

/** alpha / rank; 1 when the file has no alpha. Formed in double, as ComfyUI does. */
export function scaleFor(context: RecogniseContext, rank: number): number {
  return context.alpha === null ? (context.metadataScale(rank) ?? 1) : context.alpha / rank;
}

/** The reading of a kind that needs all of `needed`; `make` is called when all are there. */
export function reading(
  tensors: ModuleTensors,
  needed: readonly string[],
  optional: readonly string[],
  make: () => TermBody | string,
): Reading {
  const used = [...needed, ...optional].filter((suffix) => tensors.has(suffix));
  const missing = needed.filter((suffix) => !tensors.has(suffix));
  if (missing.length > 0)
    return {
      used,
      on: "weight",
      outcome: {
        problem: `${used[0]?.slice(1) ?? "the module"} without ${missing.map((suffix) => suffix.slice(1)).join(", ")}`,
        holdsTarget: false,
      },
    };
  const made = make();
  return { used, on: "weight", outcome: typeof made === "string" ? { problem: made, holdsTarget: true } : { body: made } };
}

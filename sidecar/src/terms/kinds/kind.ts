// What every kind of term offers. Adding a kind is one file beside this one and one row in `table.ts`.

import type { Kernels } from "@refit-sidecar/native";
import type { FactorName, Term } from "../types.ts";

export type Shape = readonly number[];

/** A factor as f32, row-major. */
export interface F32Tensor {
  readonly shape: Shape;
  readonly data: Float32Array;
}

/** Reads a factor of the term's own delta. Callers may cache; kinds ask for each factor once per merge. */
export type FactorReader = (name: FactorName) => Promise<F32Tensor>;

/** The values that a term acts on: a parameter or consecutive rows of it, with the view's own shape. Written in place. */
export interface View {
  readonly shape: Shape;
  readonly data: Float32Array;
}

export interface KindContext {
  readonly factors: FactorReader;
  readonly kernels: Kernels;
  /** User strength; most kinds leave it to the tail. */
  readonly strength: number;
}

/** An unscaled change in the view's shape; the tail adds `strength * scale * values`, or feeds DoRA. `values` belongs to the caller. */
export interface Change {
  readonly values: Float32Array;
  readonly scale: number;
}

export interface Kind<T extends Term> {
  /** Every factor the term needs, DoRA magnitude excluded. */
  factorNames(term: T): readonly FactorName[];
  /** Null when factors and view fit; otherwise what was expected and what came. Called before anything is evaluated. */
  check(term: T, shapeOf: (name: FactorName) => Shape, view: Shape): string | null;
  /** The change for the view as patched so far. Null when the kind wrote the view itself. */
  change(term: T, view: View, context: KindContext): Promise<Change | null>;
}

/** Product of all dimensions; 1 for none. */
export const elements = (shape: Shape): number => shape.reduce((product, dim) => product * dim, 1);

/** Product of all dimensions but the first: columns of `flat(X)`. */
export const columns = (shape: Shape): number => elements(shape.slice(1));

/**
 * Most values that an evaluation may hold beside the parameter (1 GiB of f32). Shapes in a header cost nothing, so a hostile file of a few MB could
 * ask for terabytes in between; real adapters stay far below.
 */
const mostWorkingValues = 2 ** 28;

/** Null when `count` intermediate values may be allocated. */
export function checkWorkingSize(count: number): string | null {
  return count <= mostWorkingValues ? null : `the shapes ask for ${count} values in between, more than the ${mostWorkingValues} allowed`;
}

export const shown = (shape: Shape): string => `[${shape.join(", ")}]`;

/** A product of rows x columns that must fill a view by element count, as torch's reshape asks. */
export function checkCount(rows: number, cols: number, view: Shape): string | null {
  return rows * cols === elements(view) ? null : `the factors make ${rows} x ${cols} values, the parameter has the shape ${shown(view)}`;
}

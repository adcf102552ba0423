// A term with the strength of its adapter, and what follows from its target alone.

import type { FactorReader, Shape, View } from "../kinds/kind.ts";
import type { LowRankTerm } from "../kinds/low-rank.ts";
import type { Term } from "../types.ts";

export interface Addend {
  readonly term: Term;
  readonly strength: number;
  /** Place of its adapter in the stack; only loss is told apart by it. */
  readonly adapter?: number;
  /** Factors of the delta that the term came from. */
  readonly factors: FactorReader;
}

export interface LowRankAddend extends Addend {
  readonly term: LowRankTerm;
}

/** Only adds strength * scale * up * down: may be merged together with its neighbours in one pass. */
export function isPlainLowRank(addend: Addend): addend is LowRankAddend {
  const { term } = addend;
  return term.kind === "lowRank" && term.doraScale === undefined && term.padTo === undefined;
}

/** Shape that the term sees. */
export function viewShape(term: Term, parameter: Shape): Shape {
  return term.target.slice ? [term.target.slice.length, ...parameter.slice(1)] : parameter;
}

/** The rows that the term acts on, as a window on the same memory. */
export function viewOf(term: Term, parameter: View): View {
  const { slice } = term.target;
  if (!slice) return parameter;
  const width = parameter.data.length / (parameter.shape[0] ?? 1);
  return {
    shape: viewShape(term, parameter.shape),
    data: parameter.data.subarray(slice.start * width, (slice.start + slice.length) * width),
  };
}

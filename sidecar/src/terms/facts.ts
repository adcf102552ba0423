// What can be said of a term without its factors.

import type { Term } from "./types.ts";

/** Parameters that a delta writes. */
export function touchedParameters(terms: Iterable<Term>): Set<string> {
  const touched = new Set<string>();
  for (const term of terms) touched.add(term.target.parameter);
  return touched;
}

/** The result depends on the base values by more than a sum: order in a stack matters. */
export function dependsOnBase(term: Term): boolean {
  return (
    term.doraScale !== undefined ||
    term.kind === "glora" ||
    term.kind === "orthogonal" ||
    term.kind === "channelScale" ||
    term.kind === "set"
  );
}

/** The parameter gets another shape: an engine of this structure cannot take the term (NEEDS_RECOMPILE), `merge` can. */
export function changesShape(term: Term): boolean {
  return term.kind === "lowRank" && term.padTo !== undefined;
}

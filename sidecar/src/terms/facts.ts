// What can be said of a term without its factors.

import { createHash } from "node:crypto";
import type { Target, Term } from "./types.ts";

/** Parameters that a delta writes. */
export function touchedParameters(terms: Iterable<Term>): Set<string> {
  const touched = new Set<string>();
  for (const term of terms) touched.add(term.target.parameter);
  return touched;
}

/**
 * Names what an adapter changes: SHA-256 over the sorted lines `parameter<TAB>start,length<TAB>swap`, rows and swap empty where there are none. A UI
 * that says it of its own reading can be held to ours. `.weight` and `.scale` at the end are left out: releases write one or the other.
 */
export function targetsDigest(targets: Iterable<Target>): string {
  const lines = new Set(
    [...targets].map(
      ({ parameter, slice, swapHalves }) =>
        `${parameter.replace(/\.(weight|scale)$/, "")}\t${slice ? `${slice.start},${slice.length}` : ""}\t${swapHalves === true ? "swap" : ""}`,
    ),
  );
  return createHash("sha256")
    .update([...lines].sort().join("\n"))
    .digest("hex");
}

/** The parameter gets another shape: an engine of this structure cannot take the term (NEEDS_RECOMPILE), `merge` can. */
export function changesShape(term: Term): boolean {
  return term.kind === "lowRank" && term.padTo !== undefined;
}

// One row per kind.

import type { Term } from "../types.ts";
import { channelScale, dense, set } from "./dense.ts";
import { glora } from "./glora.ts";
import { hadamard } from "./hadamard.ts";
import type { Kind } from "./kind.ts";
import { kronecker } from "./kronecker.ts";
import { lowRank } from "./low-rank.ts";
import { orthogonal } from "./orthogonal.ts";

/** Calls `use` with the term and the kind that belongs to it. */
export function withKind<R>(term: Term, use: <T extends Term>(kind: Kind<T>, term: T) => R): R {
  switch (term.kind) {
    case "lowRank": return use(lowRank, term);
    case "hadamard": return use(hadamard, term);
    case "kronecker": return use(kronecker, term);
    case "glora": return use(glora, term);
    case "orthogonal": return use(orthogonal, term);
    case "dense": return use(dense, term);
    case "set": return use(set, term);
    case "channelScale": return use(channelScale, term);
  }
}

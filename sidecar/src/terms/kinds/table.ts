// One row per kind in each of the two tables: how it is evaluated, and how it is recognised in a file.

import type { Term } from "../types.ts";
import {
  channelScale,
  dense,
  recogniseBiasDiff,
  recogniseDiff,
  recogniseIa3,
  recogniseLoraBias,
  recogniseNorm,
  recogniseSet,
  set,
} from "./dense.ts";
import { glora, recogniseGlora } from "./glora.ts";
import { hadamard, recogniseLoha } from "./hadamard.ts";
import type { Kind } from "./kind.ts";
import { kronecker, recogniseLokr } from "./kronecker.ts";
import { lowRank, recogniseLora } from "./low-rank.ts";
import { orthogonal, recogniseOft } from "./orthogonal.ts";
import type { Recogniser } from "./recognise.ts";

/** Calls `use` with the term and the kind that belongs to it. */
export function withKind<R>(term: Term, use: <T extends Term>(kind: Kind<T>, term: T) => R): R {
  switch (term.kind) {
    case "lowRank":
      return use(lowRank, term);
    case "hadamard":
      return use(hadamard, term);
    case "kronecker":
      return use(kronecker, term);
    case "glora":
      return use(glora, term);
    case "orthogonal":
      return use(orthogonal, term);
    case "dense":
      return use(dense, term);
    case "set":
      return use(set, term);
    case "channelScale":
      return use(channelScale, term);
  }
}

/** In ComfyUI's order: where several kinds are found for one module, the last one counts. */
export const recognisers: readonly Recogniser[] = [
  recogniseIa3,
  recogniseLora,
  recogniseLoha,
  recogniseLokr,
  recogniseGlora,
  recogniseOft,
  recogniseNorm,
  recogniseLoraBias,
  recogniseDiff,
  recogniseBiasDiff,
  recogniseSet,
];

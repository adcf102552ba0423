// Shape checks of terms against parameters, made before anything is evaluated.

import { shown, type Shape } from "../kinds/kind.ts";
import { withKind } from "../kinds/table.ts";
import type { Parameters } from "../names/parameters.ts";
import type { FactorName, Term } from "../types.ts";
import { viewShape } from "./addend.ts";
import { checkDora } from "./dora.ts";

/** Every factor a term needs, DoRA magnitude included. */
export function factorNames(term: Term): readonly FactorName[] {
  const names = withKind(term, (kind, own) => kind.factorNames(own));
  return term.doraScale === undefined ? names : [...names, term.doraScale];
}

/** Null when the term fits a parameter of that shape. Throws nothing; factors must be known to `shapeOf`. */
export function checkTerm(term: Term, shapeOf: (name: FactorName) => Shape, parameter: Shape): string | null {
  const { slice } = term.target;
  if (slice && slice.start + slice.length > (parameter[0] ?? 0))
    return `rows ${slice.start} to ${slice.start + slice.length} lie outside the parameter's shape ${shown(parameter)}`;
  const view = viewShape(term, parameter);
  const problem = withKind(term, (kind, own) => kind.check(own, shapeOf, view));
  if (problem !== null || term.doraScale === undefined) return problem;
  return checkDora(shapeOf(term.doraScale), term.kind === "lowRank" ? (term.padTo ?? view) : view);
}

export interface TermProblem {
  readonly term: Term;
  readonly reason: string;
}

/** Terms that cannot be applied to a structure, each with the reason. */
export function checkTerms(
  terms: readonly Term[],
  shapeOf: (name: FactorName) => Shape | undefined,
  parameters: Parameters,
): TermProblem[] {
  return terms.flatMap((term) => {
    const parameter = parameters.get(term.target.parameter);
    if (!parameter) return [{ term, reason: `the checkpoint has no parameter ${term.target.parameter}` }];
    const missing = factorNames(term).find((name) => shapeOf(name) === undefined);
    if (missing !== undefined) return [{ term, reason: `the factor ${missing} is missing` }];
    const reason = checkTerm(term, (name) => shapeOf(name) ?? [], parameter);
    return reason === null ? [] : [{ term, reason }];
  });
}

import type { RefitPlan } from "../../src/plan/types.ts";
import type { DeltaFile } from "./delta-file.ts";
import { hostFailure } from "./host-failure.ts";
import type { WeightTable } from "./weight-table.ts";

/**
 * Refuses a plan that would leave the engine with weights of no stack: another stack than the delta files, a parameter that the engine lacks or cannot change,
 * or a parameter that the stack touches and a full plan does not write. Nothing has been computed yet.
 */
export function checkPlan(plan: RefitPlan, deltas: readonly DeltaFile[], table: WeightTable): void {
  const same =
    plan.to.stack.length === deltas.length &&
    plan.to.stack.every((item, index) => item.sha256 === deltas[index]?.sha256 && item.strength === deltas[index].strength);
  if (!same)
    throw hostFailure(
      "HOST_PLAN_INVALID",
      "expected the plan's stack to be the stack of delta files, in the same order and at the same strengths",
      { plan: plan.to.stack.length, deltas: deltas.length },
    );
  const written = new Set<string>();
  for (const { parameter, reason } of plan.writes) {
    if (written.has(parameter))
      throw hostFailure("HOST_PLAN_INVALID", `expected every parameter once, ${parameter} is planned twice`, { parameter });
    written.add(parameter);
    if (!table.layout(parameter).refittable && (plan.from !== null || reason === "touched")) {
      throw hostFailure(
        "HOST_NOT_REFITTABLE",
        `this engine cannot change ${parameter}; it was not built refittable for it (NEEDS_RECOMPILE)`,
        { parameter },
      );
    }
  }
  for (const delta of deltas) {
    for (const parameter of delta.terms.keys()) {
      table.layout(parameter);
      if (plan.full && !written.has(parameter))
        throw hostFailure("HOST_PLAN_INVALID", `expected a full plan to write ${parameter}, which the stack touches`, {
          parameter,
          adapter: delta.sha256,
        });
    }
  }
  if (plan.full && written.size !== table.layouts.size)
    throw hostFailure("HOST_PLAN_INVALID", `expected a full plan to write all ${table.layouts.size} parameters, got ${written.size}`, {
      expected: table.layouts.size,
      got: written.size,
    });
}

import { Failure } from "../failure/index.ts";
import { sameStack, sameState } from "./same-state.ts";
import type { DesiredState, EngineParameters, PlannedWrite, PlanResult, StackItem, Touches } from "./types.ts";

/** The part of a stack that acts on each parameter, in order. Two states agree on a parameter exactly when these lists are equal. */
function stackByParameter(stack: readonly StackItem[], touches: Touches): Map<string, StackItem[]> {
  const result = new Map<string, StackItem[]>();
  for (const item of stack) {
    const touched = touches.get(item.sha256);
    if (touched === undefined) throw new TypeError(`the planner needs to know what adapter ${item.sha256} touches`);
    for (const parameter of touched.parameters) {
      const list = result.get(parameter);
      if (list === undefined) result.set(parameter, [item]);
      else list.push(item);
    }
  }
  return result;
}

function checkKnown(touched: ReadonlyMap<string, unknown>, names: ReadonlySet<string>): void {
  const unknown = [...touched.keys()].filter((parameter) => !names.has(parameter));
  if (unknown.length === 0) return;
  throw new Failure(
    "PLAN_PARAMETER_UNKNOWN",
    `expected adapters for this engine's structure; they touch ${unknown.length} parameters that it lacks, first ${unknown[0]}. Remove the adapter from the stack.`,
    {
      parameters: unknown.slice(0, 20),
      count: unknown.length,
    },
  );
}

/**
 * The least set of writes that turns `from` into `to`, each starting from the pristine base: parameters on which the two stacks differ, or every parameter when
 * the weights are unknown (`from` null) or the checkpoint differs. `touches` must know every adapter of both stacks. Pure.
 * Throws Failure PLAN_PARAMETER_UNKNOWN when an adapter of `to` names a parameter that the engine lacks.
 */
export function planRefit(from: DesiredState | null, to: DesiredState, touches: Touches, engine: EngineParameters): PlanResult {
  const wanted = stackByParameter(to.stack, touches);
  checkKnown(wanted, new Set(engine.names));
  const full = from === null || from.checkpoint !== to.checkpoint;
  const reshaped = to.stack.flatMap((item) => touches.get(item.sha256)?.reshapes ?? []);
  if (reshaped.length > 0) {
    return {
      kind: "recompile",
      parameters: [...new Set(reshaped)],
      reason: `an adapter gives ${reshaped.length} parameters another shape, first ${reshaped[0]}; \`merge\` can apply it`,
    };
  }
  const present = full ? new Map<string, StackItem[]>() : stackByParameter(from.stack, touches);
  const writes: PlannedWrite[] = [];
  for (const parameter of engine.names) {
    const after = wanted.get(parameter);
    const before = present.get(parameter);
    if (full) writes.push({ parameter, reason: after === undefined ? "base" : "touched" });
    else if (after !== undefined && !sameStack(after, before ?? [])) writes.push({ parameter, reason: "touched" });
    else if (after === undefined && before !== undefined) writes.push({ parameter, reason: "restored" });
  }
  // With unknown weights (a load, a recovery) a fixed parameter holds the base that the engine was made with; only a touched one is beyond it.
  const fixed = writes
    .filter(({ parameter, reason }) => engine.fixed.has(parameter) && (from !== null || reason === "touched"))
    .map((write) => write.parameter);
  if (fixed.length > 0) {
    return {
      kind: "recompile",
      parameters: fixed,
      reason: `this engine was not built refittable for ${fixed.length} parameters, first ${fixed[0]}`,
    };
  }
  // Equal weights under another name (an adapter that touches nothing) still need a commit, so that everyone agrees on the name. With another limit of loss the host finds which
  // adapters go another way.
  if (writes.length === 0 && !full && sameState(from, to)) return { kind: "nothing" };
  return { kind: "refit", plan: { from, to, full, writes } };
}

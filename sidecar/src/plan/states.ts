import { sameState } from "./same-state.ts";
import type { DesiredState, EngineState } from "./types.ts";

/** Everything that can happen to an engine's weights, in the past tense. */
export type EngineEvent =
  /** A run (or the live folder) asks for a state. */
  | { readonly type: "desired"; readonly desired: DesiredState }
  /** A prepared plan was committed completely. Never enough to leave UNKNOWN. */
  | { readonly type: "committed"; readonly weights: DesiredState }
  /** The plan failed before anything was written; old weights keep serving. */
  | { readonly type: "refitFailed"; readonly reason: string }
  /** What is desired is beyond this engine: structure, profile, or a parameter that it cannot change. */
  | { readonly type: "uncovered"; readonly reason: string }
  /** A commit was cut short, the host died, or library or driver turned out different. */
  | { readonly type: "lost"; readonly reason: string }
  /** Every parameter was written from base: by a load, or by a full refit after which every checksum was found as computed. */
  | { readonly type: "written"; readonly weights: DesiredState };

const unknownYet = "only a full refit with checksums leaves UNKNOWN";

/**
 * The next state. Pure and total over legal histories; a history that cannot happen (a partial refit that ends UNKNOWN, a commit on an engine that does not
 * cover it) is a programmer's error and throws TypeError instead of claiming to know the weights.
 */
export function nextState(state: EngineState, event: EngineEvent): EngineState {
  switch (event.type) {
    case "lost":
      return { state: "UNKNOWN", reason: event.reason };
    case "written":
      return { state: "LIVE", weights: event.weights };
    case "uncovered":
      return { state: "NEEDS_RECOMPILE", weights: state.state === "UNKNOWN" ? null : state.weights, reason: event.reason };
    case "desired":
      return onDesired(state, event.desired);
    case "committed":
      if (state.state === "UNKNOWN") throw new TypeError(`committed in UNKNOWN: ${unknownYet}`);
      if (state.state === "NEEDS_RECOMPILE") throw new TypeError("committed in NEEDS_RECOMPILE: ask for a covered state first");
      return { state: "LIVE", weights: event.weights };
    case "refitFailed":
      return onRefitFailed(state, event.reason);
  }
}

function onDesired(state: EngineState, desired: DesiredState): EngineState {
  if (state.state === "UNKNOWN") return state;
  if (state.weights === null) return { state: "UNKNOWN", reason: `left NEEDS_RECOMPILE without known weights; ${unknownYet}` };
  if (sameState(state.weights, desired)) return state.state === "LIVE" ? state : { state: "LIVE", weights: state.weights };
  return { state: "NEEDS_REFIT", weights: state.weights, reason: differs(state.weights, desired) };
}

function onRefitFailed(state: EngineState, reason: string): EngineState {
  switch (state.state) {
    case "LIVE":
      // A refit that nobody waits for any more (the run went away) changes nothing.
      return state;
    case "NEEDS_REFIT":
      return { ...state, reason };
    case "NEEDS_RECOMPILE":
      return state;
    case "UNKNOWN":
      return { state: "UNKNOWN", reason };
  }
}

function differs(weights: DesiredState, desired: DesiredState): string {
  if (weights.checkpoint !== desired.checkpoint) return "another checkpoint is desired";
  return `another stack is desired (${weights.stack.length} → ${desired.stack.length} adapters)`;
}

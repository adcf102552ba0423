// Decides what to write, and where a run goes. In: desired state, present state, what each adapter touches. Out: a refit plan, the next engine state, the stack of a live folder.
// Pure: no files, no clock, no process. It never decides from "whatever is loaded", and a plan always starts from the pristine base.

export { lessBusy, placeRun } from "./place-run.ts";
export type { DeviceLook, Placement, PlacementRules } from "./place-run.ts";
export { planRefit } from "./plan-refit.ts";
export { sameStack, sameState, stateKey } from "./same-state.ts";
export { nextState } from "./states.ts";
export type { EngineEvent } from "./states.ts";
export { liveFolderStack, parseStrength } from "./live-folder.ts";
export type { LiveFolderStack } from "./live-folder.ts";
export type {
  AdapterTouches,
  DesiredState,
  EngineParameters,
  EngineState,
  PlannedWrite,
  PlanResult,
  RefitPlan,
  StackItem,
  Touches,
  WriteReason,
} from "./types.ts";

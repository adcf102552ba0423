// Desired and current state of an engine, and the plan between them. Pure data; the planner decides, hosts execute.

/** An adapter in a stack: identity by content, order matters. */
export interface StackItem {
  readonly sha256: string;
  readonly strength: number;
}

/** What an engine's weights should equal. Travels with every run. */
export interface DesiredState {
  readonly checkpoint: string;
  readonly stack: readonly StackItem[];
}

export type EngineState =
  | { readonly state: "LIVE"; readonly weights: DesiredState }
  | { readonly state: "NEEDS_REFIT"; readonly weights: DesiredState; readonly reason: string }
  | { readonly state: "NEEDS_RECOMPILE"; readonly reason: string }
  | { readonly state: "UNKNOWN"; readonly reason: string };

export type WriteReason = "touched" | "restored" | "base";

export interface PlannedWrite {
  readonly parameter: string;
  readonly reason: WriteReason;
}

export interface RefitPlan {
  readonly from: DesiredState | null;
  readonly to: DesiredState;
  /** Every parameter is rewritten from base (first load, checkpoint change, UNKNOWN). */
  readonly full: boolean;
  readonly writes: readonly PlannedWrite[];
}

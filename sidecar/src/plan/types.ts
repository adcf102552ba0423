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
  /** Of a quantised engine: the share of an adapter's change that rounding may swallow before it stays beside the layer. Absent: the host's own limit. */
  readonly adapterLoss?: number;
}

/**
 * LIVE: the weights equal the desired state. NEEDS_REFIT: they equal `weights`, something else is desired. NEEDS_RECOMPILE: what is desired is beyond this
 * engine (structure, profile or a parameter that it cannot change); it still serves `weights`, if any. UNKNOWN: nobody can say what the weights are.
 */
export type EngineState =
  | { readonly state: "LIVE"; readonly weights: DesiredState }
  | { readonly state: "NEEDS_REFIT"; readonly weights: DesiredState; readonly reason: string }
  | { readonly state: "NEEDS_RECOMPILE"; readonly weights: DesiredState | null; readonly reason: string }
  | { readonly state: "UNKNOWN"; readonly reason: string };

export type WriteReason = "touched" | "restored" | "base";

export interface PlannedWrite {
  readonly parameter: string;
  readonly reason: WriteReason;
}

export interface RefitPlan {
  readonly from: DesiredState | null;
  readonly to: DesiredState;
  /** Every parameter is rewritten from base (checkpoint change, UNKNOWN). */
  readonly full: boolean;
  readonly writes: readonly PlannedWrite[];
}

/** What an adapter's delta does to an engine, as far as a plan needs it. */
export interface AdapterTouches {
  readonly parameters: readonly string[];
  /** Those of them that get another shape (padded): beyond a live engine. */
  readonly reshapes: readonly string[];
}

/** By the adapter's SHA-256. */
export type Touches = ReadonlyMap<string, AdapterTouches>;

/** What the planner must know of an engine. */
export interface EngineParameters {
  /** Every parameter, in the order in which writes are wanted (the checkpoint's file order reads sequentially). */
  readonly names: readonly string[];
  /** Parameters that the refit map marks as fixed in this engine. */
  readonly fixed: ReadonlySet<string>;
}

export type PlanResult =
  | { readonly kind: "nothing" }
  | { readonly kind: "refit"; readonly plan: RefitPlan }
  | { readonly kind: "recompile"; readonly parameters: readonly string[]; readonly reason: string };

// One denoiser call on a live engine. In: a leased engine, a desired state, tensors. Out: tensors, and how long they waited.
// Admission, fair turns, cancellation. It never steps on weights other than the run's own, and never lets one run keep an engine from another for good.

export { Runs } from "./runs.ts";
export type { OnProgress, Run, RunReply, RunsOptions, StepEngine, StepLease } from "./runs.ts";
export { Turns } from "./turns.ts";
export type { TurnOptions } from "./turns.ts";

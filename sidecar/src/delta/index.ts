// The delta stage: an adapter file becomes packed terms in canonical parameter names, cached under its content hash.
// In: a settled, hashed adapter and the structure of a checkpoint. Out: a delta file, and what happened to every key of the adapter.
// Must never serve a delta that its checksums do not vouch for, keep more than one tensor in memory, or drop a key without a word.

export { inspectAdapter, type AdapterHeader, type AdapterInspection } from "./inspect.ts";
export { recogniseAdapter, type RecogniseRequest, type RecognisedAdapter } from "./recognise/recognise-adapter.ts";
export type { TouchedLayer } from "./measure/measure-delta.ts";
export { MeasureService } from "./measure/measure-service.ts";
export { DeltaService } from "./read/delta-service.ts";
export { deltaFileName, ensureDelta, isFoundAgain } from "./read/ensure-delta.ts";
export { exportDelta, type ExportRequest } from "./read/export-delta.ts";
export type { DeltaRequest, DeltaTarget, ReadyDelta } from "./types.ts";

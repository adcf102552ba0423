// Baking: a stack merged into a checkpoint file, with the same packing and the same evaluator as a refit. In: files and strengths. Out: a checkpoint, a report.
// A place where stages meet (like pipeline/). Never changes the base, never leaves half a file, never drops a key without a word.

export { bake } from "./bake.ts";
export type { AdapterReport, BakeJob, BakeOptions, BakeReport } from "./bake.ts";
export { lossText } from "./loss-report.ts";
export type { LossReport } from "./loss-report.ts";
export { measureAdapter } from "./measure.ts";
export { openBase } from "./base.ts";
export type { BaseModel } from "./base.ts";

// What a file is, from its header: family with evidence, kinds, ranks, what a refit would write. In: a path. Out: an explanation.
// A place where stages meet (like the pipeline). Never reads tensor data, never needs a running sidecar.

export { explain } from "./explain.ts";
export type { Explanation } from "./explain.ts";

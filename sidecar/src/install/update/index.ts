// update: replaces this package by a newer one, in the way it came. In: where the package lies, a file or the registry. Out: a command or a note. Pure but for looking which files exist.

export { originOf } from "./origin.ts";
export type { Origin } from "./origin.ts";
export { planUpdate } from "./plan-update.ts";
export type { UpdatePlan } from "./plan-update.ts";

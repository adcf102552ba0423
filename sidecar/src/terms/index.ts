// The term algebra: what an adapter does to a model's parameters, as data, and the arithmetic that applies it.
// In: names, shapes, terms, factors as values. Out: targets, checked terms, merged parameters.
// Must never touch a file, a process or a clock, and must never know a stage.

export * from "./names/index.ts";
export type * from "./types.ts";

// New weights into live engines. In: a desired state with its files, an engine spec. Out: a generation whose weights equal that state, leases, history.
// Two-phase: prepared beside the live weights, committed between steps, or dropped with the old weights still serving. It never starts from anything but the
// pristine base, never frees a leased engine, and never calls weights known that were not written completely.

export { engineBytes, engineKey, hostKey, placedKey } from "./engine-key.ts";
export type { DeviceName } from "./engine-key.ts";
export type { HostStatus } from "./engine-hosts.ts";
export { Engines } from "./engines.ts";
export type { EngineLease, EnginesOptions, EnginesStatus } from "./engines-options.ts";
export type { RefitTotals } from "./history.ts";
export type { EngineProvider, HostGraph } from "./provider.ts";
export { LiveEngine } from "./live-engine.ts";
export type { LiveEngineParts } from "./live-engine.ts";
export type { EngineSpec, EngineStatus, RefitRecord, SharedWish, StepReply, Wanted, WantedAdapter } from "./types.ts";

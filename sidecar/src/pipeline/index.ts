// The pipeline: stages composed into a running sidecar. In: resolved options. Out: a listening wire, and a clean end.
// Holds no arithmetic and no file formats of its own; what it decides is who is called when.

export { exportGraph, runExport } from "./resolve/graphs.ts";
export { readLastUsed } from "./warm/last-used.ts";
export { hostCommand, hostPythons } from "./resolve/hosts.ts";
export type { HostPythons } from "./resolve/hosts.ts";
export { startSidecar } from "./compose.ts";
export type { Sidecar, SidecarParts } from "./compose.ts";

// The pipeline: stages composed into a running sidecar. In: resolved options. Out: a listening wire, and a clean end.
// Holds no arithmetic and no file formats of its own; what it decides is who is called when.

export { exportGraph, runExport } from "./graphs.ts";
export { hostCommand, hostPythons } from "./hosts.ts";
export type { HostPythons } from "./hosts.ts";
export { foldersOf, startSidecar } from "./sidecar.ts";
export type { Sidecar, SidecarSetup } from "./sidecar.ts";

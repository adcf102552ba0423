// The pipeline: stages composed into a running sidecar. In: resolved options. Out: a listening wire, and a clean end.
// Holds no arithmetic and no file formats of its own; what it decides is who is called when.

import type { Sidecar, SidecarParts } from "./compose.ts";

export { exportGraph, runExport } from "./resolve/graphs.ts";
export { readLastUsed } from "./warm/last-used.ts";
export { hostCommand, hostPythons } from "./resolve/hosts.ts";
export type { HostPythons } from "./resolve/hosts.ts";
export type { Sidecar, SidecarParts } from "./compose.ts";

/** See compose.ts, which is read when a sidecar starts: most commands start none, and all of its stages together take a third of a second. */
export async function startSidecar(setup: SidecarParts): Promise<Sidecar> {
  return (await import("./compose.ts")).startSidecar(setup);
}

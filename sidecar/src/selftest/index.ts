// selftest: what a host does on this computer, as rows that pass, fail or say why they could not run. In: how to start a host. Out: rows and figures without a path or a name of the user's.
// A place where stages meet (like pipeline/): it runs the refit stage as a sidecar does. It touches no file of the user's, and leaves nothing behind.

export { benchHost } from "./bench-host.ts";
export type { BenchRow } from "./bench-host.ts";
export { checkHost } from "./check-host.ts";
export type { CheckOptions } from "./check-host.ts";
export { checkUi } from "./check-ui.ts";
export { hardwareRows, readHardware } from "./hardware.ts";
export type { HardwareRow } from "./hardware.ts";
export { tryHost } from "./try-host.ts";
export { reportMarkdown } from "./report.ts";
export { withoutPaths } from "./rows.ts";
export { systemFacts } from "./system.ts";
export type { HostReport, Row, SelftestReport } from "./types.ts";

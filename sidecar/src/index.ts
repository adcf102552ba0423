// What programs import from the package: a client of a running sidecar, the errors it throws, and the command line as a function. Starting a sidecar is the command line's work (`main(["serve", …])`).
// Everything else in the package is inner and may change with any version.

export { connect, readDiscovery } from "./client/index.ts";
export type { Answer, CallOptions, Client, Discovery, HeardEvent } from "./client/index.ts";
export { defaultDataDir } from "./cli/data-dir.ts";
export { Failure } from "./failure/index.ts";
export type { FailureCode } from "./failure/index.ts";
export { main, version } from "./main.ts";

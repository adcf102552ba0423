// A client of the wire for the command line, the demo and tests. In: a data folder. Out: a session with typed calls and events.
// Never starts a sidecar, never keeps a token anywhere.

export { connect } from "./client.ts";
export type { Answer, CallOptions, Client, HeardEvent } from "./client.ts";
export { readDiscovery } from "./discovery.ts";
export type { Discovery } from "./discovery.ts";

// wire: WebSocket sessions, HTTP pages, auth and limits. In: a WireBackend and the given options. Out: a listening server and its discovery file.
// It must never decide what an engine should hold, touch a model file, or put a path, a token or a segment's name into an error or a log.

export type {
  CallContext,
  ForwardedMethod,
  PushedAdapter,
  SampleCall,
  SampleReply,
  StepCall,
  StepInput,
  StepReply,
  WireBackend,
} from "./backend.ts";
export { lockDataDir } from "./data-lock.ts";
export { findRunning, readDiscovery, type Discovery } from "./discovery.ts";
export { holdsPath, withoutPaths } from "./failures.ts";
export type { ReloadableOptions, WireOptions } from "./options.ts";
export { startWire, type WireServer, type WireParts } from "./server.ts";

// wire: WebSocket sessions, HTTP pages, auth and limits. In: a WireBackend and the given options. Out: a listening server and its discovery file.
// It must never decide what an engine should hold, touch a model file, or put a path, a token or a segment's name into an error or a log.

export type { CallContext, ForwardedMethod, PushedAdapter, StepCall, StepInput, StepReply, WireBackend } from "./backend.ts";

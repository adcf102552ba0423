// The sidecar's end of the host protocol. In: how to start a host, method calls. Out: checked answers, failures by code, word of a host that died.
// A leaf: it knows processes and messages, not engines or plans. It never lets a host outlive the sidecar, and never believes an answer that does not fit its schema.

export { HostConnection } from "./connection.ts";
export type { ConnectionParts, LogLevel } from "./connection.ts";
export { hostEnvironment, namedVariables, withheld } from "./environment.ts";
export type { EnvironmentOptions } from "./environment.ts";
export { startGateway } from "./gateway.ts";
export type { Gateway, GatewayEvents } from "./gateway.ts";
export { hugePages } from "./huge-pages.ts";
export { nextLook, patienceFor } from "./patience.ts";
export { pythonRun } from "./python.ts";
export type { HostPython, PythonRun } from "./python.ts";
export { startHost } from "./start-host.ts";
export type { StartOptions } from "./start-host.ts";
export { HostSupervisor } from "./supervisor.ts";
export type { SupervisorEvents, SupervisorStatus } from "./supervisor.ts";
export type {
  CallOptions,
  Host,
  HostCall,
  HostCommand,
  HostExit,
  HostReply,
  PlacedTensor,
  ReplyPlace,
  SharedMemory,
  SharedTensor,
  StepTensor,
} from "./types.ts";

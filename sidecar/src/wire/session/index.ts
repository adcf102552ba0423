// session: one connected client. In: WebSocket messages. Out: answers and notifications; calls to the backend. It must never trust an id, a range or a size
// that the client names, nor let one session touch what belongs to another.

export { createCalls } from "./calls.ts";
export { createConditioningStore, type ConditioningStore } from "./conditioning.ts";
export { firstIssue } from "./method-table.ts";
export { sessionMethods } from "./methods.ts";
export { createOutbox, type OutSocket } from "./outbox.ts";
export type { SessionParts, SessionSocket, Shared, WireMetrics } from "./parts.ts";
export { createSession, type Session } from "./session.ts";
export { createState } from "./state.ts";

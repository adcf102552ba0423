// What happened, for people and machines. In: facts from every stage. Out: log lines on stderr, an event stream, counters and histograms for /metrics.
// And how a size is written for people.
// Never configures anything global, never holds paths or tokens in an event that leaves the process, never throws into the caller.

export { createEvents } from "./events.ts";
export type { Events, Serving, SidecarEvent, StampedEvent } from "./events.ts";
export { createLog } from "./log.ts";
export type { Log, LogLevel } from "./log.ts";
export { createMetrics } from "./metrics.ts";
export type { Counter, Gauge, Histogram, LabelledValue, Metrics } from "./metrics.ts";
export { gibibytes } from "./sizes.ts";

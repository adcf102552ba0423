// Counters of the wire for /metrics.

import type { Metrics } from "../telemetry/index.ts";
import type { WireMetrics } from "./session/index.ts";

export function wireMetrics(metrics: Metrics): WireMetrics {
  return {
    clients: metrics.gauge("refit_wire_clients", "Open WebSocket sessions"),
    messages: metrics.counter("refit_wire_messages_total", "Messages received"),
    bytesIn: metrics.counter("refit_wire_received_bytes_total", "Bytes of messages received"),
    bytesOut: metrics.counter("refit_wire_sent_bytes_total", "Bytes of messages sent"),
    refused: metrics.counter("refit_wire_malformed_total", "Messages that break the protocol"),
    unauthorized: metrics.counter("refit_wire_refused_total", "HTTP requests and upgrades refused"),
    dropped: metrics.counter("refit_wire_slow_readers_total", "Clients dropped because they did not read"),
    stepMs: metrics.histogram(
      "refit_wire_step_ms",
      "Time of a step from its message to its answer, in ms",
      [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000],
    ),
  };
}

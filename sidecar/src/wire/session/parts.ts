// What a session needs from outside itself.

import type { Counter, Gauge, Histogram, Log } from "../../telemetry/index.ts";
import type { WireBackend } from "../backend.ts";
import type { PushStore } from "../pushes/index.ts";
import type { DeviceMemory } from "../segments/index.ts";
import type { ConditioningStore } from "./conditioning.ts";
import type { OutSocket } from "./outbox.ts";

export interface SessionSocket extends OutSocket {
  readonly pause: () => void;
  readonly resume: () => void;
  /** Says why, waits a moment for the client to read it, then cuts. */
  readonly drop: (code: number, reason: string) => void;
}

export interface WireMetrics {
  readonly clients: Gauge;
  readonly messages: Counter;
  readonly bytesIn: Counter;
  readonly bytesOut: Counter;
  readonly refused: Counter;
  readonly unauthorized: Counter;
  readonly dropped: Counter;
  readonly stepMs: Histogram;
}

export interface SessionParts {
  readonly socket: SessionSocket;
  readonly log: Log;
  readonly metrics: WireMetrics;
  readonly closing: () => boolean;
}

/** Shared by all sessions. */
export interface Shared {
  readonly backend: WireBackend;
  readonly version: string;
  readonly log: Log;
  readonly metrics: WireMetrics;
  readonly conditioning: ConditioningStore;
  readonly pushes: PushStore;
  /** null: no segments on this computer, or not with remote clients. */
  readonly segmentFolder: string | null;
  readonly deviceMemory: DeviceMemory;
  readonly clients: () => number;
  readonly nowMs: () => number;
}

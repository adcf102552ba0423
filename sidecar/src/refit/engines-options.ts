import type { Host } from "../host/types.ts";
import type { SidecarEvent } from "../telemetry/index.ts";
import type { HostStatus } from "./engine-hosts.ts";
import type { RefitTotals } from "./history.ts";
import type { LiveEngine } from "./live-engine.ts";
import type { EngineProvider } from "./provider.ts";
import type { EngineStatus, RefitRecord } from "./types.ts";

/** Of a provider only the start of hosts is needed; without `devices` each kind has one host that chooses its device by itself. */
export interface EnginesOptions extends Pick<EngineProvider, "startHost">, Partial<Omit<EngineProvider, "startHost">> {
  /** Whether a second process of that kind may wait idle to take the place of one that dies. `about`: what the first one said of itself and its device. */
  readonly keepsSpare?: (kind: string, about: Host["about"] | null) => boolean;
  /** Memory that loaded engines may take together, in main memory or on a GPU of that size; asked every time, because configuration is reloaded. */
  readonly budgetBytes: (gpuBytes: number | null) => number;
  /** Whether hosts of that kind can hold weights on a GPU: they are asked before room is made. */
  readonly asksDevice?: (kind: string) => boolean;
  readonly emit: (event: SidecarEvent) => void;
  readonly nowMs?: () => number;
  /** Waits between attempts to repair an engine. */
  readonly pause?: (ms: number) => Promise<void>;
  /** How long a new engine waits for others to be given back before REFIT_NO_ROOM. */
  readonly roomTimeoutMs?: number;
}

/** The right to use an engine: as long as it is held, the engine is not freed. */
export interface EngineLease {
  readonly engine: LiveEngine;
  readonly release: () => void;
}

export interface EnginesStatus {
  readonly engines: readonly EngineStatus[];
  /** By `hostKey`. */
  readonly hosts: Readonly<Record<string, HostStatus>>;
  readonly engineBuilds: number;
  readonly sessionLoads: number;
  readonly bytes: number;
  readonly budgetBytes: number;
  readonly totals: RefitTotals;
  readonly history: readonly RefitRecord[];
}

import { HostSupervisor } from "../host/index.ts";
import type { Host, SupervisorStatus } from "../host/index.ts";
import { hostKey } from "./engine-key.ts";
import type { DeviceName } from "./engine-key.ts";

export interface EngineHostsParts {
  readonly start: (kind: string, device: DeviceName) => Promise<Host>;
  readonly keepsSpare: (kind: string) => boolean;
  readonly onUp: (kind: string, device: DeviceName) => void;
  readonly onDown: (kind: string, device: DeviceName, message: string) => void;
}

/** A host process, or the place for one. */
export interface HostStatus extends SupervisorStatus {
  readonly kind: string;
  /** Name of its device; `device` is the hardware there, by the host's own word. */
  readonly on: DeviceName;
}

interface Supervised {
  readonly kind: string;
  readonly device: DeviceName;
  readonly supervisor: HostSupervisor;
}

/** Host processes, one for each kind on each device that was asked for. */
export class EngineHosts {
  readonly #parts: EngineHostsParts;
  /** By `hostKey`. */
  readonly #supervised = new Map<string, Supervised>();

  constructor(parts: EngineHostsParts) {
    this.#parts = parts;
  }

  supervisor(kind: string, device: DeviceName): HostSupervisor {
    const key = hostKey(kind, device);
    const known = this.#supervised.get(key);
    if (known !== undefined) return known.supervisor;
    const { start, keepsSpare, onUp, onDown } = this.#parts;
    const supervisor = new HostSupervisor(
      () => start(kind, device),
      { onUp: () => onUp(kind, device), onDown: ({ message }) => onDown(kind, device, message) },
      () => keepsSpare(kind),
    );
    this.#supervised.set(key, { kind, device, supervisor });
    return supervisor;
  }

  /** By `hostKey`. */
  get status(): Readonly<Record<string, HostStatus>> {
    return Object.fromEntries(
      [...this.#supervised].map(([key, { kind, device, supervisor }]) => [key, { ...supervisor.status, kind, on: device }]),
    );
  }

  /** Hosts that are up, by `hostKey`. Starts none. */
  running(): ReadonlyMap<string, Host> {
    return new Map(
      [...this.#supervised].flatMap(([key, { supervisor }]) => (supervisor.running === null ? [] : [[key, supervisor.running] as const])),
    );
  }

  /** It has died there and does not serve again yet. */
  isDown(kind: string, device: DeviceName): boolean {
    const supervisor = this.#supervised.get(hostKey(kind, device))?.supervisor;
    return supervisor !== undefined && supervisor.status.restarts > 0 && supervisor.running === null;
  }

  /** Ends every process. */
  async close(): Promise<void> {
    await Promise.all([...this.#supervised.values()].map(({ supervisor }) => supervisor.close()));
  }
}

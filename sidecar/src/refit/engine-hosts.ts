import { setTimeout as wait } from "node:timers/promises";
import { Failure } from "../failure/index.ts";
import { HostSupervisor, nextLook } from "../host/index.ts";
import type { Host, SupervisorStatus } from "../host/index.ts";
import { hostKey } from "./engine-key.ts";
import type { DeviceName } from "./engine-key.ts";
import type { EngineProvider } from "./provider.ts";

export interface EngineHostsParts {
  readonly start: (kind: string, device: DeviceName) => Promise<Host>;
  readonly keepsSpare: (kind: string, about: Host["about"] | null) => boolean;
  readonly onUp: (kind: string, device: DeviceName) => void;
  /** `wasAsked`: it was ended on purpose. */
  readonly onDown: (kind: string, device: DeviceName, message: string, wasAsked: boolean) => void;
  readonly renew: EngineProvider["renew"];
  readonly problem: EngineProvider["problem"];
  readonly patienceMs: EngineProvider["patienceMs"];
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

/** Nobody works on a host that has had nothing to do for so long, once runs go elsewhere. */
const restMs = 100;
/** A step can take minutes. After this the device is renewed all the same: a step that is lost is computed elsewhere. */
const longestRestMs = 10 * 60_000;
const lookMs = 20;

/** Host processes, one for each kind on each device that was asked for. */
export class EngineHosts {
  readonly #parts: EngineHostsParts;
  /** By `hostKey`. */
  readonly #supervised = new Map<string, Supervised>();
  readonly #renewing = new Set<DeviceName>();

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
      { onUp: () => onUp(kind, device), onDown: ({ message, wasAsked }) => onDown(kind, device, message, wasAsked) },
      (host) => keepsSpare(kind, host?.about ?? null),
      this.#parts.patienceMs > 0,
    );
    this.#supervised.set(key, { kind, device, supervisor });
    return supervisor;
  }

  /** The running host; starts it when there is none. Throws HOST_START_FAILED at once, or as soon as the device is away while another one serves: whoever waits had better go there. */
  async host(kind: string, device: DeviceName): Promise<Host> {
    const running = this.#supervised.get(hostKey(kind, device))?.supervisor.running ?? null;
    if (running !== null && !this.#renewing.has(device)) return running;
    const isOver = new AbortController();
    const away = async (): Promise<never> => {
      for (;;) {
        const problem = this.#parts.problem(device);
        if (problem !== null && this.#othersServe(device, kind))
          throw new Failure("HOST_START_FAILED", `${device ?? "the device"} serves no host at present: ${problem}`, { kind, device });
        await nextLook(isOver.signal);
      }
    };
    try {
      return await Promise.race([away(), this.supervisor(kind, device).host()]);
    } finally {
      isOver.abort();
    }
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

  /** It has died there and does not serve again yet, or the device is away or being renewed. */
  isDown(kind: string, device: DeviceName): boolean {
    if (this.#renewing.has(device) || this.#parts.problem(device) !== null) return true;
    const supervisor = this.#supervised.get(hostKey(kind, device))?.supervisor;
    return supervisor !== undefined && supervisor.status.restarts > 0 && supervisor.running === null;
  }

  /** A host is up on another device, of that kind where one is named. */
  #othersServe(device: DeviceName, ofKind?: string): boolean {
    return [...this.#supervised.values()].some(
      ({ kind, device: other, supervisor }) =>
        other !== device && (ofKind === undefined || kind === ofKind) && supervisor.running?.gone() === false && !this.isDown(kind, other),
    );
  }

  /** Its hosts begin anew, once they rest where others serve meanwhile. It counts as down from now on until those that ran serve again. */
  async renew(device: DeviceName): Promise<void> {
    this.#renewing.add(device);
    try {
      const running = [...this.#supervised.values()].filter((one) => one.device === device && one.supervisor.running !== null);
      const hosts = running.flatMap(({ supervisor }) => supervisor.running ?? []);
      const until = performance.now() + (this.#othersServe(device) ? longestRestMs : 0);
      while (performance.now() < until && hosts.some((host) => !host.gone() && host.idleMs() < restMs)) await wait(lookMs);
      for (const { supervisor } of running) supervisor.expectEnd();
      if (this.#parts.renew === null) await Promise.all(hosts.map((host) => host.close()));
      else await this.#parts.renew(device);
      await Promise.all(hosts.map(({ ended }) => ended));
      await Promise.all(running.map(({ supervisor }) => supervisor.host()));
    } finally {
      this.#renewing.delete(device);
    }
  }

  /** Ends every process. */
  async close(): Promise<void> {
    await Promise.all([...this.#supervised.values()].map(({ supervisor }) => supervisor.close()));
  }
}

// Each device as status, pages and metrics show it: who serves there, how busy it is, what it holds.

import type { WireResult } from "@refit-sidecar/protocol";
import { Failure } from "../../failure/index.ts";
import { hostKey } from "../../refit/index.ts";
import type { DeviceName, Engines } from "../../refit/index.ts";
import type { EngineLeases } from "../open-lease.ts";
import type { Placer } from "../placing/placer.ts";
import type { OperatorMetrics } from "./metrics.ts";

export type DeviceView = WireResult<"status">["devices"][number];

export interface DevicesParts {
  readonly engines: Pick<Engines, "devices" | "problem" | "status">;
  readonly leases: () => Pick<EngineLeases, "waiting">;
  readonly placer: () => Pick<Placer, "drained" | "runs">;
  readonly memory: OperatorMetrics["memory"];
}

/** One device after another, and one request after another: two that are away at once could be all that there are. Throws ENGINE_DEVICE_UNKNOWN. */
export function createDeviceRestart(
  engines: Pick<Engines, "devices" | "renew" | "status">,
): (given: { readonly device: string | null }, context: { readonly signal: AbortSignal }) => Promise<{ readonly restarted: string[] }> {
  let before: Promise<unknown> = Promise.resolve();
  const restart = async (device: string | null, signal: AbortSignal): Promise<{ restarted: string[] }> => {
    const names = namesOf(engines);
    const chosen = names.filter((name) => device === null || (name ?? unnamed) === device);
    if (chosen.length === 0)
      throw new Failure(
        "ENGINE_DEVICE_UNKNOWN",
        `expected one of ${names.map((name) => name ?? unnamed).join(", ")}, got ${JSON.stringify(device)}`,
        {
          device,
        },
      );
    const restarted: string[] = [];
    for (const name of chosen) {
      signal.throwIfAborted();
      await engines.renew(name);
      restarted.push(name ?? unnamed);
    }
    return { restarted };
  };
  return ({ device }, { signal }) => {
    const next = before.then(() => restart(device, signal));
    before = next.catch(() => undefined);
    return next;
  };
}

/** A device that has no name, because there is one and hosts find it. */
export const unnamed = "auto";

/** Those that engines are placed on, and any that has a host, or is to have one again. */
const namesOf = (engines: Pick<Engines, "devices" | "status">): DeviceName[] => [
  ...new Set<DeviceName>([
    ...engines.devices("torch"),
    ...Object.values(engines.status.hosts).flatMap(({ on, state }) => (state === "stopped" ? [] : [on])),
  ]),
];

export function createDeviceViews({ engines, leases, placer, memory }: DevicesParts): () => DeviceView[] {
  return () => {
    const { hosts, engines: all } = engines.status;
    return namesOf(engines).map((name) => {
      const here = Object.values(hosts).filter(({ on }) => on === name);
      const own = all.filter(({ device }) => device === name);
      const away = engines.problem(name);
      const drained = away === null ? (here.map(({ kind }) => placer().drained(kind, name)).find((why) => why !== null) ?? null) : "down";
      const held = here.map(({ kind }) => memory(hostKey(kind, name))).find((known) => known !== null) ?? null;
      return {
        name: name ?? unnamed,
        hardware: here.find(({ device }) => device !== null)?.device ?? null,
        state: drained ?? (here.some(({ state }) => state === "up") ? "up" : "idle"),
        pids: here.flatMap(({ pid }) => pid ?? []),
        restarts: here.reduce((sum, { restarts }) => sum + restarts, 0),
        problem:
          drained === "down"
            ? ((away ?? here.find(({ lastProblem }) => lastProblem !== null)?.lastProblem ?? null)?.slice(0, 2000) ?? null)
            : null,
        runs: placer().runs(name),
        waiting: own.reduce((sum, { engine }) => sum + leases().waiting(engine), 0),
        engines: own.length,
        enginesBytes: own.reduce((sum, { bytes }) => sum + bytes, 0),
        tiers: [...new Set(own.flatMap(({ serving }) => serving?.tier ?? []))],
        memory: held === null ? null : { totalBytes: held.totalBytes, freeBytes: held.freeBytes },
      };
    });
  };
}

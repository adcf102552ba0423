// Each device as status, pages and metrics show it: who serves there, how busy it is, what it holds.

import type { WireResult } from "@refit-sidecar/protocol";
import { hostKey } from "../../refit/index.ts";
import type { DeviceName, Engines } from "../../refit/index.ts";
import type { EngineLeases } from "../open-lease.ts";
import type { Placer } from "../placing/placer.ts";
import type { OperatorMetrics } from "./metrics.ts";

export type DeviceView = WireResult<"status">["devices"][number];

export interface DevicesParts {
  readonly engines: Pick<Engines, "devices" | "status">;
  readonly leases: () => Pick<EngineLeases, "waiting">;
  readonly placer: () => Pick<Placer, "drained" | "runs">;
  readonly memory: OperatorMetrics["memory"];
}

/** A device that has no name, because there is one and hosts find it. */
const unnamed = "auto";

export function createDeviceViews({ engines, leases, placer, memory }: DevicesParts): () => DeviceView[] {
  return () => {
    const { hosts, engines: all } = engines.status;
    const names = new Set<DeviceName>([...engines.devices("torch"), ...Object.values(hosts).map(({ on }) => on)]);
    return [...names].map((name) => {
      const here = Object.values(hosts).filter(({ on }) => on === name);
      const own = all.filter(({ device }) => device === name);
      const drained = here.map(({ kind }) => placer().drained(kind, name)).find((why) => why !== null) ?? null;
      const held = here.map(({ kind }) => memory(hostKey(kind, name))).find((known) => known !== null) ?? null;
      return {
        name: name ?? unnamed,
        hardware: here.find(({ device }) => device !== null)?.device ?? null,
        state: drained ?? (here.some(({ state }) => state === "up") ? "up" : "idle"),
        pids: here.flatMap(({ pid }) => pid ?? []),
        restarts: here.reduce((sum, { restarts }) => sum + restarts, 0),
        problem: drained === "down" ? (here.find(({ lastProblem }) => lastProblem !== null)?.lastProblem?.slice(0, 2000) ?? null) : null,
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

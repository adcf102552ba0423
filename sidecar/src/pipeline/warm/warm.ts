// Brings a stack to an engine before anybody asks: delta, graph, engine, weights, and steps until the next one pays for nothing but itself.

import { freemem } from "node:os";
import type { JobContext } from "../../jobs/index.ts";
import { hostKey } from "../../refit/index.ts";
import type { Engines } from "../../refit/index.ts";
import type { LastUsed } from "./last-used.ts";
import { probeInputs, probeSteps } from "./probe.ts";
import { nobodyToAsk, withRoom } from "../retry-with-room.ts";
import type { EngineLeases, LeaseOpener, LeaseRequest } from "../open-lease.ts";

export interface WarmParts {
  readonly engines: Pick<Engines, "get" | "runningHosts">;
  readonly opener: Pick<LeaseOpener, "open">;
  readonly leases: Pick<EngineLeases, "list" | "waiting">;
  readonly lastUsed: Pick<LastUsed, "step">;
}

export type Warm = (request: LeaseRequest, context: Pick<JobContext, "signal" | "progress">) => Promise<void>;

export function createWarm({ engines, opener, leases, lastUsed }: WarmParts): Warm {
  return async (request, { signal, progress }) => {
    const lease = await withRoom(() => opener.open(request, { signal, onProgress: progress }), nobodyToAsk);
    const { table, spec } = lease.origin;
    // Those that are here already, as the live folder's own, wait for no step.
    const here = new Set(leases.list());
    try {
      progress({ stage: "probe", done: 0, total: 0 });
      await probeSteps(lastUsed.step(spec.structure), {
        step: async (last) => void (await lease.step(probeInputs(table.inputs, spec.precision, last), signal)),
        wanted: () => leases.waiting() > 0 || leases.list().some((other) => other.engine === lease.engine && !here.has(other)),
        memory: async () => ({ takenBytes: (await hostMemory(engines, lease.engine)) ?? 0, freeBytes: freemem() }),
        nowMs: () => performance.now(),
      });
    } finally {
      lease.end();
    }
  };
}

/** What the process of an engine's host takes; null when it does not answer. */
export async function hostMemory(engines: Pick<Engines, "get" | "runningHosts">, engine: string): Promise<number | null> {
  const live = engines.get(engine);
  if (live === null) return null;
  const status = await engines
    .runningHosts()
    .get(hostKey(live.spec.hostKind, live.device))
    ?.call("status", {})
    .catch(() => null);
  return status?.memory.processBytes ?? null;
}

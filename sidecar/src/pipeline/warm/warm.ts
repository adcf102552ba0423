// Brings a stack to an engine before anybody asks: delta, graph, engine, weights, and steps until the next one pays for nothing but itself.

import { freemem } from "node:os";
import type { JobContext } from "../../jobs/index.ts";
import type { Engines } from "../../refit/index.ts";
import type { LastUsed } from "./last-used.ts";
import { probeInputs, probeSteps } from "./probe.ts";
import { nobodyToAsk, withRoom } from "../retry-with-room.ts";
import type { OpenRuns, RunRequest } from "../runs.ts";

export interface WarmParts {
  readonly engines: Pick<Engines, "runningHosts">;
  readonly runs: Pick<OpenRuns, "open" | "step" | "release" | "list" | "waiting">;
  readonly lastUsed: Pick<LastUsed, "step">;
}

export type Warm = (request: RunRequest, context: Pick<JobContext, "signal" | "progress">) => Promise<void>;

export function createWarm({ engines, runs, lastUsed }: WarmParts): Warm {
  return async (request, { signal, progress }) => {
    const { lease, table, spec, engine } = await withRoom(() => runs.open(request, { signal, onProgress: progress }), nobodyToAsk);
    // Those that are here already, as the live folder's run, wait for no step.
    const here = new Set(runs.list().map((run) => run.lease));
    try {
      progress({ stage: "probe", done: 0, total: 0 });
      await probeSteps(lastUsed.step(spec.structure), {
        step: async (last) => void (await runs.step(lease, probeInputs(table.inputs, spec.precision, last), signal)),
        wanted: () => runs.waiting() > 0 || runs.list().some((run) => run.engine.id === engine.id && !here.has(run.lease)),
        memory: async () => ({ takenBytes: (await hostMemory(engines, spec.hostKind)) ?? 0, freeBytes: freemem() }),
        nowMs: () => performance.now(),
      });
    } finally {
      runs.release(lease);
    }
  };
}

/** What a running host's process takes; null when it does not answer. */
export async function hostMemory(engines: Pick<Engines, "runningHosts">, kind: string): Promise<number | null> {
  const status = await engines
    .runningHosts()
    .get(kind)
    ?.call("status", {})
    .catch(() => null);
  return status?.memory.processBytes ?? null;
}

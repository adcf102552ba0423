// status: one page of facts for people and monitors.

import { z } from "zod";
import { engineInfo } from "./engine.ts";
import { method } from "./method.ts";
import { count, empty, id, milliseconds, problem, text, weights } from "./values.ts";

const statusReport = z.object({
  version: z.string(),
  startedAt: z.string(),
  uptimeMs: milliseconds,
  watch: z.object({ paused: z.boolean(), folders: count }),
  catalog: z.object({ generation: count, adapters: count, checkpoints: count, problems: count, deltasReady: count }),
  /** Engine hosts that this computer can run, and why not the others. */
  hosts: z.array(
    z.object({
      kind: z.string(),
      available: z.boolean(),
      device: z.string().nullable(),
      pid: count.nullable(),
      restarts: count,
      problem: problem.nullable(),
    }),
  ),
  /** What engines are placed on (option `devices`), one row for each. `idle`: no host has been started there; `down`, `slow`: new runs go elsewhere. */
  devices: z.array(
    z.object({
      /** As the option has it; `auto` where there is one device and hosts find it. */
      name: z.string(),
      hardware: z.string().nullable(),
      state: z.enum(["idle", "up", "down", "slow"]),
      /** Of its host processes. */
      pids: z.array(count),
      restarts: count,
      problem: text.nullable(),
      /** Runs that use it now. */
      runs: count,
      /** Steps that wait for one of its engines. */
      waiting: count,
      engines: count,
      enginesBytes: count,
      /** How its engines step. */
      tiers: z.array(z.string()),
      /** As its host told it last; null while none is up. */
      memory: z.object({ totalBytes: count, freeBytes: count }).nullable(),
    }),
  ),
  /** Since the sidecar started. A refit moves `refits` alone: the same engine, session and host process serve on. */
  totals: z.object({ engineBuilds: count, sessionLoads: count, refits: count, steps: count }),
  engines: z.array(engineInfo),
  live: z.object({ engine: id.nullable(), weights: weights.nullable(), problem: problem.nullable() }).nullable(),
  /** `remainingMs`: until all background work is done, from the pace so far; null while a kind of work has none yet. */
  jobs: z.object({ queued: count, running: count, paused: z.boolean(), remainingMs: milliseconds.nullable() }),
  memory: z.object({ processBytes: count, enginesBytes: count, budgetBytes: count }),
});

export const statusMethods = {
  status: method({
    summary: "The state of everything, in one page.",
    role: "read",
    tensors: "none",
    params: empty,
    /** `deviceSegments`: memory of devices that clients and engine hosts share at present. */
    result: statusReport.extend({ clients: count, deviceSegments: z.object({ count, bytes: count }) }),
  }),
} as const;

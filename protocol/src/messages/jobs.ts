// jobs: background work (warm-up, builds, hashing) with honest progress. Changes arrive as `job.changed` events.

import { z } from "zod";
import { method } from "./method.ts";
import { count, empty, id, problem, text } from "./values.ts";

export const job = z.object({
  id,
  kind: z.string(),
  title: text,
  state: z.enum(["queued", "running", "paused", "done", "failed", "cancelled"]),
  stage: z.string(),
  done: z.number(),
  total: z.number(),
  remainingMs: z.number().nullable(),
  problem: problem.nullable(),
});

/** Thousands of files may come at once, and whoever watches asks every second. */
export const mostQueuedListed = 200;

export const jobMethods = {
  "jobs.list": method({
    summary: `Running jobs, the first ${mostQueuedListed} that wait, in the order in which they begin, and the last that ended; \`queued\` counts all that wait. With \`ids\`, these jobs alone.`,
    role: "read",
    tensors: "none",
    params: z.strictObject({ ids: z.array(id).max(100).exactOptional() }),
    result: z.object({ jobs: z.array(job), queued: count }),
  }),
  "jobs.cancel": method({
    summary: "Asks a job to stop.",
    role: "control",
    tensors: "none",
    params: z.strictObject({ job: id }),
    result: z.object({ cancelled: z.boolean() }),
  }),
  "jobs.pause": method({
    summary: "Holds all background work until resumed; steps and prepares of users go on.",
    role: "control",
    tensors: "none",
    params: empty,
    result: z.object({ paused: z.boolean() }),
  }),
  "jobs.resume": method({
    summary: "Goes on with background work.",
    role: "control",
    tensors: "none",
    params: empty,
    result: z.object({ paused: z.boolean() }),
  }),
} as const;

// Background work as clients list and steer it.

import { mostQueuedListed } from "@refit-sidecar/protocol";
import { Failure } from "../../failure/index.ts";
import type { Scheduler } from "../../jobs/index.ts";
import type { WireBackend } from "../../wire/index.ts";
import { jobView } from "./views.ts";

export function jobAnswers(jobs: Scheduler): Pick<WireBackend, "jobs.list" | "jobs.cancel" | "jobs.pause" | "jobs.resume"> {
  return {
    "jobs.list": async ({ ids }) => ({
      jobs: jobs.list({ queued: mostQueuedListed, ...(ids === undefined ? {} : { ids: new Set(ids) }) }).map(jobView),
      queued: jobs.counts().queued,
    }),
    "jobs.cancel": async ({ job }) => {
      if (jobs.list({ ids: new Set([job]) }).length === 0)
        throw new Failure("JOB_UNKNOWN", "expected the id of a job; there is none by this id. List the jobs again.", { job });
      return { cancelled: jobs.cancel(job) };
    },
    "jobs.pause": async () => {
      jobs.pause();
      return { paused: jobs.paused() };
    },
    "jobs.resume": async () => {
      jobs.resume();
      return { paused: jobs.paused() };
    },
  };
}

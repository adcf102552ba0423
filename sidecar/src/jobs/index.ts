// Background work: warm-up, packing, graph export. In: jobs with an urgency. Out: results, progress, one list for the pages.
// Never delays what a user waits for: background jobs have a bounded number, yield to steps and can be paused and cancelled.

export { createScheduler } from "./scheduler.ts";
export type { Scheduler, SchedulerOptions } from "./scheduler.ts";
export type { JobContext, JobHandle, JobInfo, JobProgress, JobSpec, JobState, Urgency } from "./types.ts";
export { remainingMs } from "./pace.ts";

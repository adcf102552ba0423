// Changes of jobs on their way to clients: a job that changes many times in a moment is told once, and a crowd of jobs is told as numbers.

import type { JobView } from "./views.ts";

export type JobNews =
  | { readonly type: "job.changed"; readonly job: JobView }
  | { readonly type: "job.many"; readonly queued: number; readonly running: number; readonly ended: number };

/** A person sees a change within this time. */
const gatherMs = 200;
/** More changed jobs than this in one gathering are told as numbers; a page that shows them asks for the list. */
const toldOneByOne = 8;

export interface JobNewsGatherer {
  readonly note: (job: JobView) => void;
  /** Tells what is held, now. */
  readonly flush: () => void;
}

/** `tell` gets the latest state of each job, failures always by themselves. `later` schedules the end of a gathering. */
export function createJobNews(
  tell: (news: JobNews) => void,
  later: (run: () => void, ms: number) => void = (run, ms) => void setTimeout(run, ms).unref(),
): JobNewsGatherer {
  const changed = new Map<string, JobView>();
  let gathering = false;

  function flush(): void {
    gathering = false;
    const jobs = [...changed.values()];
    changed.clear();
    const alone = jobs.length <= toldOneByOne ? jobs : jobs.filter(({ state }) => state === "failed").slice(0, toldOneByOne);
    for (const job of alone) tell({ type: "job.changed", job });
    const rest = jobs.filter((job) => !alone.includes(job));
    if (rest.length === 0) return;
    const queued = rest.filter(({ state }) => state === "queued").length;
    const running = rest.filter(({ state }) => state === "running").length;
    tell({ type: "job.many", queued, running, ended: rest.length - queued - running });
  }

  return {
    note(job) {
      changed.set(job.id, job);
      if (gathering) return;
      gathering = true;
      later(flush, gatherMs);
    },
    flush,
  };
}

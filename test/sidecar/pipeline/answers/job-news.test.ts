import { describe, expect, it } from "vitest";
import { createJobNews, type JobNews } from "../../../../sidecar/src/pipeline/answers/job-news.ts";
import type { JobView } from "../../../../sidecar/src/pipeline/answers/views.ts";

const job = (id: number, state: JobView["state"]): JobView => ({
  id: `job-${id}`,
  kind: "delta",
  title: `Prepare ${id}`,
  state,
  stage: "x",
  done: 0,
  total: 0,
  remainingMs: null,
  problem: null,
});

function bench() {
  const told: JobNews[] = [];
  const ends: (() => void)[] = [];
  const news = createJobNews(
    (item) => void told.push(item),
    (run) => void ends.push(run),
  );
  return { news, told, ends };
}

describe("createJobNews", () => {
  it("tells a job that changes many times in a moment once, with its latest state", () => {
    const { news, told, ends } = bench();
    for (const state of ["queued", "running", "running", "done"] as const) news.note(job(1, state));
    expect(told).toEqual([]);
    ends.shift()!();
    expect(told).toEqual([{ type: "job.changed", job: job(1, "done") }]);
    news.note(job(1, "done"));
    expect(ends).toHaveLength(1);
  });
  it("tells a warm-up of two hundred jobs as numbers, failures by themselves", () => {
    const { news, told, ends } = bench();
    for (let id = 0; id < 200; id++) {
      news.note(job(id, "queued"));
      if (id < 100) news.note(job(id, "running"));
      if (id < 90) news.note(job(id, id === 7 ? "failed" : "done"));
    }
    ends.shift()!();
    expect(told).toEqual([
      { type: "job.changed", job: job(7, "failed") },
      { type: "job.many", queued: 100, running: 10, ended: 89 },
    ]);
  });
});

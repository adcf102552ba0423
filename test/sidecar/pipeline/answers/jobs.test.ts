// A crowd of waiting jobs, as clients see it.

import { afterAll, beforeAll, expect, it } from "vitest";
import { mostQueuedListed, wireMethods } from "../../../../protocol/src/index.ts";
import { topLines, type TopFacts } from "../../../../sidecar/src/cli/top.ts";
import { createScheduler, type JobContext, type Scheduler } from "../../../../sidecar/src/jobs/index.ts";
import { jobAnswers } from "../../../../sidecar/src/pipeline/answers/jobs.ts";
import type { CallContext } from "../../../../sidecar/src/wire/index.ts";

const count = 10_000;
let jobs: Scheduler;
let urgent: string;
beforeAll(() => {
  jobs = createScheduler({ concurrency: 1, stepsActive: () => false, maxYieldMs: 0, onChange: () => undefined });
  const run = ({ signal }: JobContext) =>
    new Promise<void>((_, reject) => signal.addEventListener("abort", () => reject(new Error("ended"))));
  for (let index = 0; index <= count; index += 1)
    jobs.submit({ key: `${index}`, kind: "delta", title: `LoRA ${index}`, urgency: "arrival", run });
  urgent = jobs.submit({ key: "warm", kind: "warm", title: "warming", urgency: "lastUsed", run }).id;
});
afterAll(() => jobs.close());

const list = (params: { readonly ids?: string[] } = {}) => jobAnswers(jobs)["jobs.list"](params, {} as CallContext);

it("of 10,000 jobs that wait the first are listed, in the order in which they begin, and all are counted", async () => {
  const work = wireMethods["jobs.list"].result.parse(await list());
  expect(work.queued).toBe(count + 1);
  expect(work.jobs.map(({ state }) => state)).toEqual(["running", ...Array<string>(mostQueuedListed).fill("queued")]);
  expect(work.jobs.slice(0, 3).map(({ title }) => title)).toEqual(["LoRA 0", "warming", "LoRA 1"]);
  expect(work.jobs.at(-1)?.title).toBe(`LoRA ${mostQueuedListed - 1}`);
  expect(JSON.stringify(work).length).toBeLessThan(64_000);
});

it("one that waits far behind is found by its id, and cancelled", async () => {
  const [last] = jobs.list().filter(({ title }) => title === `LoRA ${count}`);
  const asked = await list({ ids: [last?.id ?? "", urgent, "job-none"] });
  expect(asked.jobs.map(({ title }) => title)).toEqual(["warming", `LoRA ${count}`]);
  expect(await jobAnswers(jobs)["jobs.cancel"]({ job: last?.id ?? "" }, {} as CallContext)).toEqual({ cancelled: true });
  expect((await list({ ids: [last?.id ?? ""] })).jobs).toMatchObject([{ state: "cancelled" }]);
});

it("top says how many more wait", async () => {
  const status = { memory: {}, catalog: {}, totals: {}, engines: [], devices: [] } as unknown as TopFacts["status"];
  const lines = topLines({ status, work: await list(), figures: [] });
  expect(lines.filter((line) => line.startsWith("queued"))).toHaveLength(mostQueuedListed);
  expect(lines.at(-1)).toBe(`and ${jobs.counts().queued - mostQueuedListed} more that wait`);
});

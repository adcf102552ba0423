import { describe, expect, it } from "vitest";
import { createScheduler } from "../../../sidecar/src/jobs/index.ts";
import type { JobContext, JobInfo, Urgency } from "../../../sidecar/src/jobs/index.ts";

function bench(
  overrides: {
    concurrency?: number;
    stepsActive?: () => boolean;
    maxYieldMs?: number;
    mayStart?: () => boolean;
    resting?: () => boolean;
  } = {},
) {
  const changes: JobInfo[] = [];
  let clock = 0;
  const scheduler = createScheduler({
    concurrency: overrides.concurrency ?? 1,
    stepsActive: overrides.stepsActive ?? (() => false),
    maxYieldMs: overrides.maxYieldMs ?? 1000,
    onChange: (job) => void changes.push(job),
    ...(overrides.resting ? { resting: overrides.resting } : {}),
    ...(overrides.mayStart ? { mayStart: overrides.mayStart } : {}),
    nowMs: () => clock,
    wait: async (ms) => {
      clock += ms;
    },
  });
  const started: string[] = [];
  const gates = new Map<string, { open: () => void; close: (reason: unknown) => void }>();
  const submit = (key: string, urgency: Urgency, run?: (context: JobContext) => Promise<string>) => {
    const gate = new Promise<void>((open, close) => {
      if (!gates.has(key)) gates.set(key, { open, close });
    });
    gate.catch(() => undefined);
    return scheduler.submit({
      key,
      kind: "delta",
      title: key,
      urgency,
      run:
        run ??
        (async (context) => {
          started.push(key);
          context.signal.addEventListener("abort", () => gates.get(key)!.close(context.signal.reason), { once: true });
          await gate;
          return key;
        }),
    });
  };
  return {
    scheduler,
    submit,
    started,
    changes,
    open: (key: string) => gates.get(key)!.open(),
    advance: (ms: number) => void (clock += ms),
    clock: () => clock,
  };
}

const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

describe("createScheduler", () => {
  it("starts by urgency, then by age, within its concurrency", async () => {
    const { submit, started, open } = bench();
    const first = submit("idle 1", "idle");
    submit("idle 2", "idle");
    submit("arrival", "arrival");
    submit("last used", "lastUsed");
    open("idle 1");
    await first.result;
    await settled();
    expect(started).toEqual(["idle 1", "last used"]);
  });

  it("holds heavy work that nobody asked for until the computer rests, lets lighter work pass it, and starts it at once for a user", async () => {
    let resting = false;
    const { scheduler, submit, started, open } = bench({ resting: () => resting });
    const heavy = (urgency: Urgency, key = "heavy") =>
      scheduler.submit({
        key,
        kind: "graph",
        title: key,
        urgency,
        atRest: true,
        run: async ({ background }) => void started.push(`${key}${background() ? "" : " for a user"}`),
      });
    heavy("arrival");
    const light = submit("light", "idle");
    open("light");
    await light.result;
    await settled();
    expect(started).toEqual(["light"]);
    await heavy("user", "heavy").result;
    expect(started).toEqual(["light", "heavy for a user"]);
    heavy("arrival", "other");
    resting = true;
    scheduler.wake();
    await settled();
    expect(started).toEqual(["light", "heavy for a user", "other"]);
    await scheduler.close();
  });

  it("does not keep what was asked for behind background work, pauses or quiet hours, and tells work that somebody waits for it now", async () => {
    const { scheduler, submit, started, open } = bench({ mayStart: () => false });
    const told: string[] = [];
    scheduler.pause();
    submit("rebuild", "asked");
    submit("warm", "asked");
    await settled();
    expect(started).toEqual(["rebuild"]);
    open("rebuild");
    await settled();
    await settled();
    expect(started).toEqual(["rebuild", "warm"]);
    await scheduler.close();
    const other = bench();
    const gate = new Promise<string>((resolve) =>
      other.submit("export", "arrival", async ({ background, awaited }) => {
        told.push(background() ? "nobody waits" : "awaited");
        await awaited;
        told.push(background() ? "nobody waits" : "awaited");
        resolve("exported");
        return "exported";
      }),
    );
    other.submit("button", "asked");
    await settled();
    expect([told, other.started]).toEqual([["nobody waits"], ["button"]]);
    other.submit("export", "user");
    await gate;
    expect(told).toEqual(["nobody waits", "awaited"]);
    other.open("button");
    await settled();
    await other.scheduler.close();
  });

  it("starts nothing in the background in quiet hours but what a user waits for, and goes on when it is woken after them", async () => {
    let quiet = true;
    const { scheduler, submit, started } = bench({ mayStart: () => !quiet });
    submit("background", "lastUsed");
    submit("user", "user");
    await settled();
    expect(started).toEqual(["user"]);
    quiet = false;
    scheduler.wake();
    await settled();
    expect(started).toEqual(["user", "background"]);
  });

  it("starts what a user waits for at once, beyond the concurrency and while paused", async () => {
    const { scheduler, submit, started } = bench();
    submit("background", "idle");
    await settled();
    scheduler.pause();
    submit("another", "idle");
    submit("user", "user");
    await settled();
    expect(started).toEqual(["background", "user"]);
    scheduler.resume();
    await scheduler.close();
  });

  it("joins equal keys and raises the urgency of the one that waits", async () => {
    const { scheduler, submit, started } = bench();
    scheduler.pause();
    const slow = submit("same", "idle");
    await settled();
    expect(started).toEqual([]);
    const urgent = submit("same", "user");
    await settled();
    expect(urgent.id).toBe(slow.id);
    expect(started).toEqual(["same"]);
    await scheduler.close();
  });

  it("cancels queued and running jobs with JOB_CANCELLED", async () => {
    const { scheduler, submit } = bench();
    const running = submit("running", "idle");
    const queued = submit("queued", "idle");
    await settled();
    expect(scheduler.cancel(queued.id)).toBe(true);
    expect(scheduler.cancel(running.id)).toBe(true);
    await expect(queued.result).rejects.toMatchObject({ code: "JOB_CANCELLED" });
    await expect(running.result).rejects.toMatchObject({ code: "JOB_CANCELLED" });
    expect(scheduler.cancel(running.id)).toBe(false);
    expect(scheduler.list().map((job) => job.state)).toEqual(["cancelled", "cancelled"]);
  });

  it("yields to steps, but not for ever", async () => {
    const { submit, clock } = bench({ stepsActive: () => true, maxYieldMs: 500 });
    const done = submit("held", "idle", async () => "ran");
    await expect(done.result).resolves.toBe("ran");
    expect(clock()).toBeGreaterThanOrEqual(500);
  });

  it("tells the remaining time only from its own pace", async () => {
    const { submit, changes, advance } = bench();
    const work = submit("work", "idle", async (context) => {
      advance(100);
      context.progress({ stage: "packing", done: 1, total: 100 });
      advance(900);
      context.progress({ stage: "packing", done: 50, total: 100 });
      return "done";
    });
    await work.result;
    expect(changes.filter((job) => job.stage === "packing" && job.state === "running").map((job) => job.remainingMs)).toEqual([null, 1000]);
  });

  it("counts the pace of a stage from its own beginning", async () => {
    const { submit, changes, advance } = bench();
    await submit("work", "idle", async (context) => {
      context.progress({ stage: "graph", done: 0, total: 0 });
      advance(60_000);
      context.progress({ stage: "weights", done: 0, total: 100 });
      advance(500);
      context.progress({ stage: "weights", done: 25, total: 100 });
      return "done";
    }).result;
    expect(changes.filter((job) => job.stage === "weights" && job.state === "running").map((job) => job.remainingMs)).toEqual([null, 1500]);
  });

  it("tells what the rest of the queue will take from jobs of its kind that have ended, and nothing before one has", async () => {
    let now = 0;
    const scheduler = createScheduler({
      concurrency: 1,
      stepsActive: () => false,
      maxYieldMs: 0,
      onChange: () => undefined,
      nowMs: () => now,
    });
    let release: () => void = () => undefined;
    const pack = (key: string, size: number, work: () => Promise<void>) =>
      scheduler.submit({ key, kind: "delta", title: key, urgency: "idle", size, run: work });
    const first = pack("first", 100, async () => void (now += 200));
    const second = pack("second", 300, () => new Promise((resolve) => (release = resolve)));
    const third = pack("third", 50, async () => undefined);
    expect(scheduler.remainingMs()).toBeNull();
    await first.result;
    await expect.poll(() => scheduler.list().find(({ title }) => title === "second")?.state).toBe("running");
    now += 100;
    expect(scheduler.list().find(({ title }) => title === "second")?.remainingMs).toBe(500);
    expect(scheduler.remainingMs()).toBe(500 + 100);
    release();
    await Promise.all([second.result, third.result]);
    expect(scheduler.remainingMs()).toBe(0);
    // Work that nobody has measured yet makes the whole unknown.
    scheduler.pause();
    scheduler.submit({ key: "graph", kind: "graph", title: "graph", urgency: "idle", run: async () => undefined });
    expect(scheduler.remainingMs()).toBeNull();
  });

  it("reports a failure to whoever waits and in the list, and goes on", async () => {
    const { scheduler, submit } = bench();
    const bad = submit("bad", "idle", async () => {
      throw new Error("no space");
    });
    await expect(bad.result).rejects.toThrow("no space");
    expect(scheduler.list()[0]).toMatchObject({ state: "failed", error: expect.objectContaining({ message: "no space" }) as unknown });
    await expect(submit("good", "idle", async () => "ok").result).resolves.toBe("ok");
  });

  it("takes no job after close (JOB_CLOSED)", async () => {
    const { scheduler, submit } = bench();
    await scheduler.close();
    expect(() => submit("late", "idle")).toThrow(expect.objectContaining({ code: "JOB_CLOSED" }));
  });
});

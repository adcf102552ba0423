import { Failure } from "../failure/index.ts";
import { Paces, remainingMs } from "./pace.ts";
import type { JobContext, JobHandle, JobInfo, JobProgress, JobSpec, JobState, Urgency } from "./types.ts";

export interface SchedulerOptions {
  /** Background jobs that run at one time, and as many that were asked for beside them; those that a user waits for are not counted. */
  readonly concurrency: number;
  /** True while a step runs or one is expected in the next moment. */
  readonly stepsActive: () => boolean;
  /** Longest that a background job is held up by steps before it goes on anyway: work must end even under a queue of prompts. */
  readonly maxYieldMs: number;
  /** True while nobody has used an engine for a while; asked for jobs that want rest, and again every `restPollMs`. */
  readonly resting?: () => boolean;
  readonly onChange: (job: JobInfo) => void;
  /** False while no background job may start (quiet hours), except one that was asked for; asked when a job comes or ends, and by `wake`. */
  readonly mayStart?: () => boolean;
  readonly nowMs?: () => number;
  readonly wait?: (ms: number) => Promise<void>;
}

export interface Scheduler {
  readonly submit: <Result>(spec: JobSpec<Result>) => JobHandle<Result>;
  /** Running jobs, those that wait, in the order in which they begin, then the last 50 that ended. `queued`: the first so many of those that wait. */
  readonly list: (wanted?: { readonly queued?: number; readonly ids?: ReadonlySet<string> }) => readonly JobInfo[];
  readonly counts: () => Readonly<Record<"queued" | "running", number>>;
  /** False when there is no such job, or it has ended. */
  readonly cancel: (id: string) => boolean;
  /** Background jobs that have not started wait until `resume`; what somebody waits for or has asked for goes on. */
  readonly pause: () => void;
  readonly resume: () => void;
  /** Looks again at what may start: the answer of `mayStart` has changed. */
  readonly wake: () => void;
  readonly paused: () => boolean;
  /** Until everything in the background is done, as far as paces are known; null while one is not. 0 when there is nothing. */
  readonly remainingMs: () => number | null;
  /** Cancels everything and resolves when nothing runs. */
  readonly close: () => Promise<void>;
}

const rank: Readonly<Record<Urgency, number>> = { user: 0, asked: 1, lastUsed: 2, arrival: 3, idle: 4 };
/** Somebody gave word for it: it stands back behind nothing but steps, and neither a pause nor quiet hours hold it. */
const onRequest = (urgency: Urgency): boolean => urgency === "user" || urgency === "asked";
const keptEnded = 50;
const yieldPollMs = 20;
const restPollMs = 1000;

/** What is counted together: work that was asked for never waits behind work that was not. */
type Slot = "user" | "asked" | "background";

interface Entry {
  readonly id: string;
  readonly order: number;
  readonly spec: JobSpec<unknown>;
  readonly abort: AbortController;
  readonly settle: { readonly resolve: (value: unknown) => void; readonly reject: (error: unknown) => void };
  readonly result: Promise<unknown>;
  readonly awaited: { readonly promise: Promise<unknown>; readonly resolve: (value: unknown) => void };
  urgency: Urgency;
  state: JobState;
  progress: JobProgress;
  startedAtMs: number;
  /** When its present stage began: a pace belongs to a stage. */
  stageAtMs: number;
  error: unknown;
}

/** A queue by urgency, then by age. Starts nothing while paused, except what a user waits for. */
export function createScheduler(options: SchedulerOptions): Scheduler {
  const nowMs = options.nowMs ?? (() => performance.now());
  const wait = options.wait ?? ((ms) => new Promise<void>((resolve) => setTimeout(resolve, ms)));
  const open = new Map<string, Entry>();
  const ended: JobInfo[] = [];
  const paces = new Paces();
  const running = new Set<Promise<void>>();
  let count = 0;
  let paused = false;
  let closed = false;
  let restTimer: NodeJS.Timeout | null = null;

  const info = (entry: Entry): JobInfo => ({
    id: entry.id,
    kind: entry.spec.kind,
    title: entry.spec.title,
    urgency: entry.urgency,
    state: entry.state,
    ...entry.progress,
    remainingMs: remaining(entry, nowMs(), paces),
    error: entry.error,
  });

  function finish(entry: Entry, state: "done" | "failed" | "cancelled", outcome: unknown): void {
    entry.state = state;
    open.delete(entry.spec.key);
    if (state === "done") entry.settle.resolve(outcome);
    else {
      entry.error = outcome;
      entry.settle.reject(outcome);
    }
    ended.push(info(entry));
    if (ended.length > keptEnded) ended.shift();
    options.onChange(info(entry));
  }

  async function yieldToSteps(entry: Entry): Promise<void> {
    const until = nowMs() + options.maxYieldMs;
    while (entry.urgency !== "user" && options.stepsActive() && nowMs() < until && !entry.abort.signal.aborted) await wait(yieldPollMs);
    entry.abort.signal.throwIfAborted();
  }

  async function execute(entry: Entry): Promise<void> {
    entry.state = "running";
    options.onChange(info(entry));
    const context: JobContext = {
      signal: entry.abort.signal,
      background: () => !onRequest(entry.urgency),
      awaited: entry.awaited.promise.then(() => undefined),
      yieldToSteps: () => yieldToSteps(entry),
      progress: (progress) => {
        if (progress.stage !== entry.progress.stage && entry.progress.stage !== "queued") entry.stageAtMs = nowMs();
        entry.progress = progress;
        options.onChange(info(entry));
      },
    };
    try {
      await yieldToSteps(entry);
      entry.startedAtMs = nowMs();
      entry.stageAtMs = entry.startedAtMs;
      const result = await entry.spec.run(context);
      if (entry.spec.size !== undefined) paces.note(entry.spec.kind, nowMs() - entry.startedAtMs, entry.spec.size);
      finish(entry, "done", result);
    } catch (error) {
      finish(entry, entry.abort.signal.aborted ? "cancelled" : "failed", error);
    }
  }

  const mayWork = (entry: Entry): boolean => entry.spec.atRest !== true || options.resting === undefined || options.resting();

  /** Looks again after a while at jobs that wait for rest: nothing tells when it begins. */
  function awaitRest(entries: readonly Entry[]): void {
    if (restTimer !== null || closed || !entries.some((entry) => entry.state === "queued" && !onRequest(entry.urgency) && !mayWork(entry)))
      return;
    restTimer = setTimeout(() => {
      restTimer = null;
      pump();
    }, restPollMs);
    restTimer.unref();
  }

  function pump(): void {
    const entries = [...open.values()];
    const slotOf = ({ urgency }: Entry): Slot => (urgency === "user" ? "user" : urgency === "asked" ? "asked" : "background");
    const taken: Record<Slot, number> = { user: -Infinity, asked: 0, background: 0 };
    for (const other of entries) if (other.state === "running") taken[slotOf(other)] += 1;
    const isFree = (entry: Entry): boolean => taken[slotOf(entry)] < options.concurrency;
    const held = paused || options.mayStart?.() === false;
    // Thousands of files may have been queued at once: what cannot start is not put in order.
    const startable = entries.filter(
      (entry) => entry.state === "queued" && isFree(entry) && (onRequest(entry.urgency) || (!held && mayWork(entry))),
    );
    awaitRest(entries);
    for (const entry of inOrder(startable)) {
      if (!isFree(entry)) continue;
      taken[slotOf(entry)] += 1;
      const work = execute(entry).finally(() => {
        running.delete(work);
        pump();
      });
      running.add(work);
    }
  }

  function cancelEntry(entry: Entry): void {
    const reason = new Failure("JOB_CANCELLED", `the job "${entry.spec.title}" was cancelled`, { job: entry.id });
    entry.abort.abort(reason);
    if (entry.state === "queued") finish(entry, "cancelled", reason);
  }

  return {
    submit<Result>(spec: JobSpec<Result>): JobHandle<Result> {
      if (closed) throw new Failure("JOB_CLOSED", "no more jobs are taken: the sidecar is shutting down", {});
      const present = open.get(spec.key);
      if (present) {
        if (rank[spec.urgency] < rank[present.urgency]) present.urgency = spec.urgency;
        if (onRequest(present.urgency)) present.awaited.resolve(undefined);
        pump();
        return { id: present.id, result: present.result as Promise<Result> };
      }
      count += 1;
      const settle = deferred();
      // Whoever submitted may not care for the outcome; a failed background job must not end the process.
      settle.promise.catch(() => undefined);
      const entry: Entry = {
        id: `job-${count}`,
        order: count,
        spec,
        abort: new AbortController(),
        settle,
        result: settle.promise,
        awaited: deferred(),
        urgency: spec.urgency,
        state: "queued",
        progress: { stage: "queued", done: 0, total: 0 },
        startedAtMs: nowMs(),
        stageAtMs: nowMs(),
        error: null,
      };
      if (onRequest(spec.urgency)) entry.awaited.resolve(undefined);
      open.set(spec.key, entry);
      options.onChange(info(entry));
      pump();
      return { id: entry.id, result: settle.promise as Promise<Result> };
    },
    list({ queued = Infinity, ids } = {}) {
      const isWanted = ({ id }: { readonly id: string }): boolean => ids === undefined || ids.has(id);
      const wanted = [...open.values()].filter(isWanted);
      const waiting = inOrder(wanted.filter(({ state }) => state === "queued")).slice(0, queued);
      const present = [...wanted.filter(({ state }) => state === "running"), ...waiting];
      return [...present.map(info), ...ended.toReversed().filter(isWanted)];
    },
    counts() {
      const entries = [...open.values()];
      const running = entries.filter(({ state }) => state === "running").length;
      return { queued: entries.length - running, running };
    },
    cancel(id) {
      const entry = [...open.values()].find((candidate) => candidate.id === id);
      if (!entry) return false;
      cancelEntry(entry);
      return true;
    },
    pause: () => void (paused = true),
    resume() {
      paused = false;
      pump();
    },
    wake: pump,
    paused: () => paused,
    remainingMs() {
      let sum = 0;
      for (const entry of open.values()) {
        if (entry.urgency === "user") continue;
        const left =
          entry.state === "running"
            ? remaining(entry, nowMs(), paces)
            : entry.spec.size === undefined
              ? null
              : paces.expectedMs(entry.spec.kind, entry.spec.size);
        if (left === null) return null;
        sum += left;
      }
      return sum / options.concurrency;
    },
    async close() {
      closed = true;
      if (restTimer !== null) clearTimeout(restTimer);
      for (const entry of [...open.values()]) cancelEntry(entry);
      await Promise.all(running);
    },
  };
}

/** As they begin: by urgency, then by age. */
const inOrder = (entries: readonly Entry[]): Entry[] => entries.toSorted((a, b) => rank[a.urgency] - rank[b.urgency] || a.order - b.order);

/** Promise.withResolvers, which Node 20 lacks. */
function deferred(): {
  readonly promise: Promise<unknown>;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
} {
  let resolve: (value: unknown) => void = () => undefined;
  let reject: (error: unknown) => void = () => undefined;
  const promise = new Promise<unknown>((onValue, onError) => {
    resolve = onValue;
    reject = onError;
  });
  return { promise, resolve, reject };
}

function remaining(entry: Entry, nowMs: number, paces: Paces): number | null {
  if (entry.state !== "running") return null;
  const elapsedMs = nowMs - entry.startedAtMs;
  const own = remainingMs(nowMs - entry.stageAtMs, entry.progress.done, entry.progress.total);
  if (own !== null || entry.spec.size === undefined) return own;
  const expectedMs = paces.expectedMs(entry.spec.kind, entry.spec.size);
  return expectedMs === null ? null : Math.max(0, expectedMs - elapsedMs);
}

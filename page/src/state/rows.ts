// State to rows of text: pure, so that it can be tested without a browser. A row: name, state, detail, tone (ok, busy, warn, bad), progress 0..1.

import { nameParts } from "./library.ts";
import { knownName, nameOf } from "./names.ts";
import { coded, type Connection, type Run, type View } from "../wire/client.ts";

export interface Row {
  readonly name: string;
  readonly state: string;
  readonly detail: string;
  readonly tone: string;
  readonly title?: string;
  readonly progress?: number;
}

interface Serving {
  readonly tier: string;
  readonly refused: readonly { readonly steps: string; readonly reason: string }[];
  readonly base: string;
  readonly streamedBytes: number;
  readonly quantised: { readonly format: string; readonly outputError: number | null } | null;
}

/** An engine, as far as a row shows it; an older sidecar leaves out what it does not tell. */
export interface EngineFacts {
  readonly id: string;
  readonly family: string | null;
  readonly precision: string;
  readonly host: string;
  readonly device: string;
  readonly state: string;
  readonly reason: string | null;
  readonly memoryBytes: number;
  readonly leases: number;
  readonly lastRefit: { readonly ms: number } | null;
  readonly weights?: {
    readonly checkpoint: string;
    readonly stack: readonly { readonly sha256: string; readonly strength: number }[];
  } | null;
  readonly serving?: Serving | null;
  readonly losses?: readonly { readonly adapter: string; readonly projection: number }[];
}

interface JobFacts {
  readonly id?: string;
  readonly title: string;
  readonly state: string;
  readonly stage: string;
  readonly done: number;
  readonly total: number;
  readonly remainingMs: number | null;
  readonly problem: { readonly code: string; readonly message: string } | null;
}

export interface AdapterFacts {
  readonly kind: string;
  readonly folder: string | null;
  readonly name: string;
  readonly family: string | null;
  readonly kinds: readonly string[];
  readonly sizeBytes: number;
  readonly delta: string;
  readonly problem: { readonly code: string; readonly message: string } | null;
}

interface HistoryFacts {
  readonly at: string;
  readonly event: {
    readonly type: string;
    readonly ms?: number;
    readonly writes?: number;
    readonly stack?: readonly unknown[];
    readonly message?: string;
    readonly code?: string;
  };
}

const mebibyte = 2 ** 20;
/** "1 run", "2 runs". */
export const plural = (count: number, one: string): string => `${count} ${one}${count === 1 ? "" : "s"}`;

/** Bytes for people. */
export const size = (bytes: number): string =>
  bytes > 0 && bytes < mebibyte
    ? `${Math.ceil(bytes / 1024)} KiB`
    : bytes < 10_000 * mebibyte
      ? `${(bytes / mebibyte).toFixed(0)} MiB`
      : `${(bytes / mebibyte / 1024).toFixed(1)} GiB`;
/** A time for people, from milliseconds. */
export const ms = (value: number): string =>
  value >= 120_000
    ? `${Math.round(value / 60_000)} min`
    : value >= 1000
      ? `${(value / 1000).toFixed(1)} s`
      : `${value.toFixed(value < 10 ? 1 : 0)} ms`;
export const time = (at: string): string => new Date(at).toLocaleTimeString();

const engineTones: Readonly<Record<string, string>> = { LIVE: "ok", NEEDS_REFIT: "busy", NEEDS_RECOMPILE: "warn", UNKNOWN: "warn" };

/** How an engine serves, one text a fact; older sidecars do not tell. */
function servingTexts(serving: Serving | null | undefined): (string | null)[] {
  if (!serving) return [];
  const { tier, refused, base, streamedBytes, quantised } = serving;
  return [
    tier,
    base ? `base ${base}` : null,
    streamedBytes > 0 ? `${size(streamedBytes)} streamed` : null,
    quantised?.outputError ? `${quantised.format} error ${(quantised.outputError * 100).toFixed(1)} %` : null,
    ...refused.map(({ steps, reason }) => `${steps}: ${reason}`),
  ];
}

/** An adapter that keeps less than this of its change is told; above it nobody sees a difference. */
export const keptEnough = 0.95;

/** How much of an adapter's change an engine's number format keeps, for people. */
export const keptShare = (projection: number): string => `${Math.max(0, Math.round(projection * 100))} %`;

interface Named {
  readonly sha256: string | null;
  readonly name: string;
}

/** What the engine's number format loses of each adapter of the present stack. `entries`: the catalog's, for names. */
function lossTexts(engine: EngineFacts, entries: readonly Named[]): string[] {
  return (engine.losses ?? [])
    .filter(({ projection }) => projection < keptEnough)
    .map(({ adapter, projection }) => `keeps ${keptShare(projection)} of ${knownName(entries, adapter)?.replace(/^.*\//, "") ?? "a LoRA"}`);
}

/** A checkpoint or an adapter as people call it: without its folders and its extension. */
const titleOf = (entries: readonly Named[], key: string): string => nameParts(nameOf({ catalog: entries }, key)).title;

/** Each engine by its checkpoint, with its stack. `entries`: the catalog's, for names. */
export function engineRows(engines: readonly EngineFacts[], entries: readonly Named[] = []): Row[] {
  return engines.map((engine) => ({
    name: engine.weights ? titleOf(entries, engine.weights.checkpoint) : "no weights yet",
    state: engine.state,
    detail: [
      engine.weights?.stack.map(({ sha256, strength }) => `${titleOf(entries, sha256)} × ${strength}`).join(", "),
      `${engine.family ?? "unknown family"} ${engine.precision} · ${engine.host}`,
      size(engine.memoryBytes),
      engine.leases > 0 ? "in use" : "idle",
      ...servingTexts(engine.serving),
      ...lossTexts(engine, entries),
      engine.lastRefit ? `refit ${ms(engine.lastRefit.ms)}` : null,
      engine.reason,
    ]
      .filter(Boolean)
      .join(" · "),
    tone: engineTones[engine.state] ?? "warn",
    title: `${engine.id} on ${engine.device}`,
  }));
}

const shownJobs = 20;

/** Work that is under way or waits: the first of it, and how much more. */
export function jobRows({ jobs, queued }: { readonly jobs: readonly JobFacts[]; readonly queued: number }): Row[] {
  const running = jobs.filter(({ state }) => state === "running");
  const open = [...running, ...jobs.filter(({ state }) => state === "queued")];
  const more = running.length + queued - shownJobs;
  return [
    ...open.slice(0, shownJobs).map(jobRow),
    ...(more > 0 ? [{ name: `${more} more`, state: "queued", detail: "", tone: "idle" }] : []),
  ];
}

const jobRow = (job: JobFacts): Row => ({
  name: job.title,
  state: job.state,
  detail: [job.stage, job.remainingMs === null ? null : `about ${ms(job.remainingMs)} left`].filter(Boolean).join(" · "),
  tone: "busy",
  ...(job.state === "running" && job.total > 0 ? { progress: job.done / job.total } : {}),
});

/** Work that failed, each title once with its newest reason, without what the user has dismissed. */
export function failureRows(jobs: readonly JobFacts[], dismissed: ReadonlySet<string> = new Set()): Row[] {
  const byTitle = new Map<string, { readonly job: JobFacts; readonly times: number }>();
  for (const job of jobs) {
    if (job.state !== "failed" || dismissed.has(job.id ?? "")) continue;
    const times = (byTitle.get(job.title)?.times ?? 0) + 1;
    byTitle.set(job.title, { job, times });
  }
  return [...byTitle.values()].map(({ job, times }) => ({
    name: job.title,
    state: times > 1 ? `failed ${times} times` : "failed",
    detail: job.problem ? coded(job.problem) : "",
    tone: "bad",
  }));
}

export function historyRows(history: readonly HistoryFacts[]): Row[] {
  return history
    .filter(({ event }) => event.type === "refit.committed" || event.type === "refit.failed")
    .slice(-20)
    .reverse()
    .map(({ at, event }) =>
      event.type === "refit.failed"
        ? { name: time(at), state: "failed", detail: coded({ message: event.message ?? "", code: event.code }), tone: "bad" }
        : {
            name: time(at),
            state: ms(event.ms ?? 0),
            detail: `${event.writes ?? 0} weights, ${event.stack?.length ?? 0} LoRA${event.stack?.length === 1 ? "" : "s"}`,
            tone: "ok",
          },
    );
}

const deltaStates: Readonly<Record<string, readonly [string, string]>> = {
  ready: ["ready", "ok"],
  pending: ["being prepared", "busy"],
  none: ["not prepared yet", "idle"],
  failed: ["failed", "bad"],
};

/** One adapter: what it is, and whether it is ready. */
export function adapterRow(entry: AdapterFacts): Row {
  const [state, tone] = entry.problem ? ["cannot be used", "bad"] : (deltaStates[entry.delta] ?? ["", "idle"]);
  const facts = [entry.family ?? "unknown family", entry.kinds.join(", "), size(entry.sizeBytes)];
  return { name: entry.name, state, detail: entry.problem ? coded(entry.problem) : facts.filter(Boolean).join(" · "), tone };
}

/** The last run, and what of it did nothing; `ui` is the UI's name. */
export function runLine(run: Run | null, ui: string): Row[] {
  if (run === null) return [];
  if (run.served_by === "local") return [{ name: run.checkpoint, state: `in ${ui} itself`, detail: run.reason, tone: "warn" }];
  const { report } = run;
  const steps = Math.max(report.steps, 1);
  const detail = [
    `${report.steps} steps of ${ms(report.step_ms / steps)}`,
    report.refit_ms > 0 ? `refit ${ms(report.refit_ms)}` : "no refit was needed",
    report.queue_ms > 100 ? `waited ${ms(report.queue_ms)}` : null,
  ]
    .filter(Boolean)
    .join(" · ");
  const without = (report.other_family ?? []).map((text) => ({
    name: text.split(" was made for ")[0] ?? text,
    state: "for another model",
    detail: text,
    tone: "warn",
  }));
  return [{ name: run.checkpoint, state: "on an engine", detail, tone: "ok" }, ...without];
}

/** The accordion's line: what is under way or was last, and how long the last refit took. Trouble with the sidecar comes before an old run. */
export function stateLine({ connection, view }: { readonly connection: Connection; readonly view: View }): { state: string; text: string } {
  const resting = view.state === "idle" || view.state === "serving";
  if (connection.state !== "connected" && resting) return { state: connection.state, text: connection.text };
  const refit = !view.last_refit_ms || /refit \d/.test(view.line) ? "" : ` Last refit: ${ms(view.last_refit_ms)}.`;
  return { state: view.state, text: `${view.line}${refit}` };
}

const briefs: Readonly<Record<string, string>> = {
  warming: "getting ready",
  refitting: "refitting",
  serving: "on an engine",
  fallback: "not on an engine",
  starting: "starting",
  lost: "no sidecar",
  missing: "no sidecar",
  "sign-in": "sign in",
};

/** A word for beside the closed accordion's name; none while there is nothing to tell. */
export const stateBrief = (state: string): string => briefs[state] ?? "";

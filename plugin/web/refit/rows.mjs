// State to rows of text: pure, so that it can be tested without a browser. A row: name, state, detail, tone (ok, busy, warn, bad), progress 0..1.

const size = (bytes) => (bytes > 0 && bytes < 2 ** 20 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / 2 ** 20).toFixed(0)} MiB`);
const ms = (value) => (value >= 1000 ? `${(value / 1000).toFixed(1)} s` : `${value.toFixed(value < 10 ? 1 : 0)} ms`);
const time = (at) => new Date(at).toLocaleTimeString();

const engineTones = { LIVE: "ok", NEEDS_REFIT: "busy", NEEDS_RECOMPILE: "warn", UNKNOWN: "warn" };

/** How an engine serves, one text a fact; older sidecars do not tell. */
function servingTexts(serving) {
  if (!serving) return [];
  const { tier, refused, base, streamedBytes, quantised } = serving;
  return [
    tier,
    base ? `base ${base}` : null,
    streamedBytes > 0 ? `${size(streamedBytes)} streamed` : null,
    quantised?.outputError > 0 ? `${quantised.format} error ${(quantised.outputError * 100).toFixed(1)} %` : null,
    ...refused.map(({ steps, reason }) => `${steps}: ${reason}`),
  ];
}

/** An adapter that keeps less than this of its change is told; above it nobody sees a difference. */
const keptEnough = 0.95;

/** What the engine's number format loses of each adapter of the present stack. `entries`: the catalog's, for names. */
function lossTexts(engine, entries) {
  const nameOf = (sha256) => entries.find((entry) => entry.sha256 === sha256)?.name.replace(/^.*\//, "") ?? "a LoRA";
  return (engine.losses ?? [])
    .filter(({ projection }) => projection < keptEnough)
    .map(({ adapter, projection }) => `keeps ${Math.max(0, Math.round(projection * 100))} % of ${nameOf(adapter)}`);
}

export function engineRows(engines, entries = []) {
  return engines.map((engine) => ({
    name: `${engine.family ?? "unknown"} ${engine.precision} · ${engine.host}`,
    state: engine.state,
    detail: [
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

export function jobRows(jobs) {
  return jobs
    .filter((job) => ["queued", "running", "paused"].includes(job.state))
    .map((job) => ({
      name: job.title,
      state: job.state,
      detail: [job.stage, job.remainingMs === null ? null : `about ${ms(job.remainingMs)} left`].filter(Boolean).join(" · "),
      tone: "busy",
      ...(job.state === "running" && job.total > 0 ? { progress: job.done / job.total } : {}),
    }));
}

/** Work that failed, each title once with its newest reason, without what the user has dismissed. */
export function failureRows(jobs, dismissed = new Set()) {
  const byTitle = new Map();
  for (const job of jobs) {
    if (job.state !== "failed" || dismissed.has(job.id)) continue;
    const times = (byTitle.get(job.title)?.times ?? 0) + 1;
    byTitle.set(job.title, { job, times });
  }
  return [...byTitle.values()].map(({ job, times }) => ({
    name: job.title,
    state: times > 1 ? `failed ${times} times` : "failed",
    detail: job.problem?.message ?? "",
    tone: "bad",
  }));
}

export function historyRows(history) {
  return history
    .filter(({ event }) => event.type === "refit.committed" || event.type === "refit.failed")
    .slice(-20)
    .reverse()
    .map(({ at, event }) =>
      event.type === "refit.failed"
        ? { name: time(at), state: "failed", detail: event.message, tone: "bad" }
        : {
            name: time(at),
            state: ms(event.ms),
            detail: `${event.writes} weights, ${event.stack.length} LoRA${event.stack.length === 1 ? "" : "s"}`,
            tone: "ok",
          },
    );
}

const deltaStates = {
  ready: ["ready", "ok"],
  pending: ["being prepared", "busy"],
  none: ["not prepared yet", "idle"],
  failed: ["failed", "bad"],
};

export function adapterRows(catalog, filter = "") {
  const wanted = filter.trim().toLowerCase();
  return catalog
    .filter((entry) => entry.kind === "adapter" && entry.folder !== null && entry.name.toLowerCase().includes(wanted))
    .map((entry) => {
      const [state, tone] = entry.problem ? ["cannot be used", "bad"] : deltaStates[entry.delta];
      return {
        name: entry.name,
        state,
        detail: entry.problem
          ? entry.problem.message
          : [entry.family ?? "unknown family", entry.kinds.join(", "), size(entry.sizeBytes)].filter(Boolean).join(" · "),
        tone,
      };
    });
}

/** The last run, and what of it did nothing; `ui` is the UI's name. */
export function runLine(run, ui) {
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
    name: text.split(" was made for ")[0],
    state: "for another model",
    detail: text,
    tone: "warn",
  }));
  return [{ name: run.checkpoint, state: "on an engine", detail, tone: "ok" }, ...without];
}

/** The accordion's line: what is under way or was last, and how long the last refit took. Trouble with the sidecar comes before an old run. */
export function stateLine({ connection, view }) {
  const resting = view.state === "idle" || view.state === "serving";
  if (connection.state !== "connected" && resting) return { state: connection.state, text: connection.text };
  const refit = !view.last_refit_ms || /refit \d/.test(view.line) ? "" : ` Last refit: ${ms(view.last_refit_ms)}.`;
  return { state: view.state, text: `${view.line}${refit}` };
}

const briefs = {
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
export const stateBrief = (state) => briefs[state] ?? "";

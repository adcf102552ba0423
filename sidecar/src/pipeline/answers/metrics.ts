// What an operator watches, as Prometheus metrics: refits, steps, queues, engines, device memory. docs/operate/metrics.md has the list and the alerts.

import type { WireResult } from "@refit-sidecar/protocol";
import type { Engines } from "../../refit/index.ts";
import type { Scheduler } from "../../jobs/index.ts";
import type { Catalog } from "../../catalog/index.ts";
import type { Events, Histogram, LabelledValue, Metrics } from "../../telemetry/index.ts";
import type { EngineLeases } from "../open-lease.ts";
import { unnamed } from "./devices.ts";
import type { DeviceView } from "./devices.ts";

/** Of a host's device, and of the host process. */
export interface HostMemory {
  readonly totalBytes: number;
  readonly freeBytes: number;
  readonly processBytes: number;
}

export interface MetricsParts {
  readonly metrics: Metrics;
  readonly events: Events;
  readonly engines: Engines;
  readonly leases: () => Pick<EngineLeases, "list" | "waiting">;
  readonly jobs: Scheduler;
  readonly catalog: Catalog;
  readonly devices: () => readonly DeviceView[];
}

export interface OperatorMetrics {
  /** Times that pages show with their percentiles. */
  readonly figures: Readonly<Record<"step" | "wait" | "refit" | "swap", Histogram>>;
  readonly stepped: (ms: number, waitedMs: number) => void;
  readonly looped: (result: Pick<WireResult<"engine.sample">, "refits" | "ms">) => void;
  /** Memory of a host's device when it was last asked (`hostKey`); null: it was not, or is not up. */
  readonly memory: (host: string) => HostMemory | null;
  readonly close: () => void;
}

const milliseconds = [1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000];
const loopMilliseconds = [100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000];
/** Hosts are asked for their memory so often; between two steps, by a call that touches no weight. */
const memoryEveryMs = 10_000;
const states = ["LIVE", "NEEDS_REFIT", "NEEDS_RECOMPILE", "UNKNOWN"] as const;

function enginesByTier(engines: Engines["status"]["engines"]): LabelledValue[] {
  const found = new Map<string, { readonly labels: Readonly<Record<string, string>>; value: number }>();
  for (const { device, serving } of engines.filter(({ bytes }) => bytes > 0)) {
    const labels = { device: device ?? unnamed, tier: serving?.tier ?? "unknown" };
    const key = JSON.stringify(labels);
    found.set(key, { labels, value: (found.get(key)?.value ?? 0) + 1 });
  }
  return [...found.values()];
}

export function operatorMetrics({ metrics, events, engines, leases, jobs, catalog, devices }: MetricsParts): OperatorMetrics {
  const refits = metrics.histogram("refit_refit_ms", "Time of a refit from plan to commit, in ms", milliseconds);
  const swaps = metrics.histogram("refit_swap_ms", "Time in which a refit closed the engine to steps, in ms", milliseconds);
  const steps = metrics.histogram("refit_step_ms", "Time of a denoiser call in the engine, in ms", milliseconds);
  const waits = metrics.histogram("refit_step_wait_ms", "Time that a step waited for its turn and its weights, in ms", milliseconds);
  const loops = metrics.histogram("refit_loop_ms", "Time of a whole loop from its call to its answer, in ms", loopMilliseconds);
  const loopWaits = metrics.histogram(
    "refit_loop_wait_ms",
    "Time that a loop waited behind other loops and between its steps, in ms",
    loopMilliseconds,
  );
  const loopRefits = metrics.histogram("refit_loop_refits", "Changes of weights that a loop waited for", [0, 1, 2, 4, 8]);
  const failures = metrics.counter("refit_refit_failures_total", "Refits that failed; the old weights kept serving");
  const crashes = metrics.counter("refit_host_crashes_total", "Engine hosts that ended without being asked to");
  metrics.gauge("refit_engines_bytes", "Memory of loaded engines' weights, in bytes", () => engines.status.bytes);
  metrics.gauge("refit_engines_budget_bytes", "Memory that loaded engines may take together, in bytes", () => engines.status.budgetBytes);
  metrics.gauges("refit_engines", "Engines by state", () =>
    states.map((state) => ({ labels: { state }, value: engines.status.engines.filter((engine) => engine.state.state === state).length })),
  );
  metrics.gauges("refit_engine_builds_total", "Engines loaded for the first time in this process", () => [
    { labels: {}, value: engines.status.engineBuilds },
  ]);
  metrics.gauge("refit_steps_waiting", "Steps that wait for an engine", () => leases().waiting());
  const byDevice = (value: (device: DeviceView) => number) => () =>
    devices().map((device) => ({ labels: { device: device.name }, value: value(device) }));
  metrics.gauges(
    "refit_device_serving",
    "1 while new runs go to the device, 0 while it is down or slow",
    byDevice(({ state }) => (state === "down" || state === "slow" ? 0 : 1)),
  );
  metrics.gauges(
    "refit_device_runs",
    "Runs that use a device now",
    byDevice(({ runs }) => runs),
  );
  metrics.gauges(
    "refit_device_steps_waiting",
    "Steps that wait for an engine of a device",
    byDevice(({ waiting }) => waiting),
  );
  metrics.gauges(
    "refit_device_engines_bytes",
    "Memory of the engines' weights on a device, in bytes",
    byDevice(({ enginesBytes }) => enginesBytes),
  );
  metrics.gauges("refit_device_engines", "Loaded engines of a device, by how they step", () => enginesByTier(engines.status.engines));
  metrics.gauge("refit_leases", "Runs that hold an engine", () => leases().list().length);
  metrics.gauges("refit_jobs", "Background jobs by state", () =>
    Object.entries(jobs.counts()).map(([state, value]) => ({ labels: { state }, value })),
  );
  metrics.gauge("refit_catalog_entries", "Files in the catalog", () => catalog.snapshot().entries.size);
  const memory = new Map<string, HostMemory>();
  const rows = (key: "totalBytes" | "freeBytes" | "processBytes") => () =>
    [...memory].map(([host, held]) => ({ labels: { host }, value: held[key] }));
  metrics.gauges(
    "refit_host_memory_total_bytes",
    "Memory of the device that a host runs on (GPU memory, or main memory), in bytes",
    rows("totalBytes"),
  );
  metrics.gauges("refit_host_memory_free_bytes", "Free memory of that device, in bytes", rows("freeBytes"));
  metrics.gauges("refit_host_process_bytes", "Memory of the host process, in bytes", rows("processBytes"));

  const stop = events.subscribe(({ event }) => {
    if (event.type === "refit.committed") {
      refits.observe(event.ms);
      const record = engines.status.history.at(-1);
      if (record?.engine === event.engine && record.kind === "refit") swaps.observe(record.commitMs);
    }
    if (event.type === "refit.failed") failures.add();
    if (event.type === "host.crashed") crashes.add();
  });
  async function ask(): Promise<void> {
    const running = engines.runningHosts();
    for (const kind of [...memory.keys()]) if (!running.has(kind)) memory.delete(kind);
    for (const [kind, host] of running)
      await host.call("status", {}).then(
        (status) => void memory.set(kind, status.memory),
        () => void memory.delete(kind),
      );
  }
  let asking: Promise<void> | null = null;
  const timer = setInterval(() => void (asking ??= ask().finally(() => void (asking = null))), memoryEveryMs);
  timer.unref();
  return {
    figures: { step: steps, wait: waits, refit: refits, swap: swaps },
    stepped(ms, waitedMs) {
      steps.observe(ms);
      waits.observe(waitedMs);
    },
    looped({ ms, refits: { count } }) {
      loops.observe(ms.total);
      loopWaits.observe(ms.queue);
      loopRefits.observe(count);
    },
    memory: (host) => memory.get(host) ?? null,
    close() {
      stop();
      clearInterval(timer);
    },
  };
}

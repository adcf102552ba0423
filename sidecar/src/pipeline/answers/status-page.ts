// The status page: one snapshot of everything, put together from the stages.

import type { Catalog } from "../../catalog/index.ts";
import type { Scheduler } from "../../jobs/index.ts";
import { hostKey } from "../../refit/index.ts";
import type { DeviceName, Engines } from "../../refit/index.ts";
import type { WireBackend } from "../../wire/index.ts";
import type { Folders } from "../folders.ts";
import type { LiveFolder } from "../live-folder.ts";
import type { EngineLeases } from "../open-lease.ts";
import type { DeviceView } from "./devices.ts";
import { createJobNews } from "./job-news.ts";
import type { JobNews } from "./job-news.ts";
import { engineView } from "./views.ts";
import type { EngineView, JobView } from "./views.ts";
import type { Resolver } from "../resolve/resolver.ts";

export interface StatusParts {
  readonly version: string;
  readonly catalog: Catalog;
  readonly engines: Engines;
  readonly leases: Pick<EngineLeases, "steps">;
  readonly jobs: Scheduler;
  readonly resolver: Resolver;
  readonly folders: Folders;
  readonly live: LiveFolder | null;
  readonly devices: () => DeviceView[];
  readonly paused: () => boolean;
  /** Engine hosts that could be started, with the reason for those that could not. */
  readonly hostKinds: () => readonly {
    readonly kind: string;
    readonly problem: { readonly code: string; readonly message: string } | null;
  }[];
}

export interface StatusPage {
  readonly status: WireBackend["status"];
  readonly engines: () => EngineView[];
  readonly onJob: (listener: (news: JobNews) => void) => () => void;
  readonly noteJob: (job: JobView) => void;
}

/** Hardware, with the name of the device where there are several. */
const deviceText = (name: DeviceName, hardware: string): string => (name === null ? hardware : `${name}: ${hardware}`);

export function createStatusPage(parts: StatusParts): StatusPage {
  const { catalog, engines, leases, jobs, resolver, folders } = parts;
  const startedAt = new Date();
  const startedMs = performance.now();
  const jobListeners = new Set<(news: JobNews) => void>();
  const news = createJobNews((told) => {
    for (const listener of jobListeners) listener(told);
  });

  function families(): Map<string, EngineView["family"]> {
    return new Map(
      [...catalog.snapshot().entries.values()].flatMap((entry) =>
        entry.kind === "checkpoint" && entry.structure !== null ? [[entry.structure, entry.family] as const] : [],
      ),
    );
  }

  function engineViews(): EngineView[] {
    const { engines: statuses, history, hosts } = engines.status;
    const family = families();
    return statuses.map((status) =>
      engineView(status, {
        family: family.get(status.spec.structure) ?? null,
        device: deviceText(status.device, hosts[hostKey(status.spec.hostKind, status.device)]?.device ?? ""),
        steps: leases.steps(status.engine),
        lastRefit: history.findLast((record) => record.engine === status.engine && record.failure === null) ?? null,
        checkpointId: resolver.checkpointId,
      }),
    );
  }

  function liveView(): Awaited<ReturnType<WireBackend["status"]>>["live"] {
    if (parts.live === null) return null;
    const { lease, problem } = parts.live.status();
    return {
      engine: lease?.engine ?? null,
      weights:
        lease === null
          ? null
          : {
              checkpoint: lease.origin.resolved.checkpoint.entry.id,
              stack: lease.wanted.desired.stack.map(({ sha256, strength }) => ({ sha256, strength })),
            },
      problem: problem === null ? null : { code: problem.code, message: problem.message.slice(0, 2000) },
    };
  }

  return {
    engines: engineViews,
    onJob(listener) {
      jobListeners.add(listener);
      return () => void jobListeners.delete(listener);
    },
    noteJob: news.note,
    status: async () => {
      const entries = [...catalog.snapshot().entries.values()];
      const { hosts, bytes, budgetBytes, engineBuilds, sessionLoads, totals } = engines.status;
      return {
        version: parts.version,
        startedAt: startedAt.toISOString(),
        uptimeMs: performance.now() - startedMs,
        watch: { paused: parts.paused(), folders: folders.views().length },
        catalog: {
          generation: catalog.snapshot().generation,
          adapters: entries.filter((entry) => entry.kind === "adapter").length,
          checkpoints: entries.filter((entry) => entry.kind === "checkpoint").length,
          problems: entries.filter((entry) => entry.problem !== null).length,
          deltasReady: entries.filter((entry) => resolver.deltaState(entry.id) === "ready").length,
        },
        hosts: parts.hostKinds().map(({ kind, problem }) => {
          const own = Object.values(hosts).filter((host) => host.kind === kind);
          const first = own.find(({ pid }) => pid !== null);
          return {
            kind,
            available: problem === null,
            device: first?.device ?? null,
            pid: first?.pid ?? null,
            restarts: own.reduce((sum, { restarts }) => sum + restarts, 0),
            problem,
          };
        }),
        devices: parts.devices(),
        totals: { engineBuilds, sessionLoads, refits: totals.refits, steps: leases.steps() },
        engines: engineViews(),
        live: liveView(),
        jobs: {
          ...jobs.counts(),
          paused: jobs.paused(),
          remainingMs: jobs.remainingMs(),
        },
        memory: { processBytes: process.memoryUsage.rss(), enginesBytes: bytes, budgetBytes },
      };
    },
  };
}

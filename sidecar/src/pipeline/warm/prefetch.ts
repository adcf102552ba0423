// Work ahead of need: deltas of adapters and graphs of checkpoints that arrive. Never in a user's way (jobs yield to steps), never against the policy.

import type { Catalog, CatalogChange } from "../../catalog/index.ts";
import type { Scheduler, Urgency } from "../../jobs/index.ts";
import type { MergeMode } from "../../terms/index.ts";
import type { WarmPolicy } from "./warm-policy.ts";
import type { ResolvedCheckpoint, Resolver } from "../resolve/resolver.ts";

export interface PrefetchParts {
  readonly catalog: Catalog;
  readonly resolver: Resolver;
  readonly jobs: Scheduler;
  readonly mode: () => MergeMode;
  /** Checkpoint ids whose engines are loaded, most wanted first. */
  readonly inUse: () => readonly string[];
  /** Asked every time: configuration is reloaded. */
  readonly policy: () => WarmPolicy;
  /** Makes the graph of a checkpoint whose structure has none yet, where this computer can. */
  readonly graph: (checkpoint: ResolvedCheckpoint, urgency: Urgency) => Promise<void>;
}

/** Without a loaded engine the newest checkpoints of a family stand for what will be wanted. */
const guessedCheckpoints = 2;

export interface Prefetch {
  /** Packs what a catalog change brought, for the checkpoints it will likely be used with. */
  readonly onChange: (change: CatalogChange) => void;
  /** Packs every adapter that fits, in the background. */
  readonly all: () => void;
}

export function createPrefetch({ catalog, resolver, jobs, mode, inUse, policy, graph }: PrefetchParts): Prefetch {
  function checkpointsFor(family: string | null): readonly string[] {
    const usable = [...catalog.snapshot().entries.values()].filter(
      (entry) => entry.kind === "checkpoint" && entry.problem === null && (family === null || entry.family === family),
    );
    const ids = new Set(usable.map((entry) => entry.id));
    const loaded = inUse().filter((id) => ids.has(id));
    if (loaded.length > 0) return loaded;
    // One checkpoint per structure: a delta belongs to a structure, not to a checkpoint.
    const byStructure = new Map(
      usable.flatMap((entry) => (entry.kind === "checkpoint" && entry.structure !== null ? [[entry.structure, entry.id] as const] : [])),
    );
    return [...byStructure.values()].slice(0, guessedCheckpoints);
  }

  function pack(id: string, wish: Urgency): void {
    const entry = catalog.snapshot().entries.get(id);
    if (entry === undefined || entry.problem !== null) return;
    const rule = policy().ruleFor(entry.path);
    if (rule === "off") return;
    const urgency = rule === "idle" ? "idle" : wish;
    if (entry.kind === "checkpoint") {
      // A checkpoint that is no model of a known family has no graph; whoever asks for it is told why.
      if (entry.structure !== null)
        resolver
          .checkpoint(id)
          .then((resolved) => graph(resolved, urgency))
          .catch(() => undefined);
      return;
    }
    for (const checkpoint of checkpointsFor(entry.family)) {
      jobs
        .submit({
          key: `delta ${id} ${checkpoint} ${mode()}`,
          kind: "delta",
          title: `Prepare ${entry.name}`,
          urgency,
          size: entry.sizeBytes,
          run: async ({ signal, yieldToSteps }) => {
            const resolved = await resolver.checkpoint(checkpoint);
            await yieldToSteps();
            await resolver.delta(id, resolved, mode(), signal);
          },
        })
        // The failure is in the job list and in the events; nobody waits here.
        .result.catch(() => undefined);
    }
  }

  /** Content that was seen behind an id: an entry also changes when its hash becomes known, which is no reason to pack it again. */
  const seen = new Map<string, string>();

  function isNew(id: string): boolean {
    const sha256 = catalog.snapshot().entries.get(id)?.identity?.sha256;
    const before = seen.get(id);
    if (sha256 === undefined) seen.delete(id);
    else seen.set(id, sha256);
    return sha256 === undefined ? before !== undefined || resolver.deltaState(id) === "none" : before !== undefined && before !== sha256;
  }

  return {
    onChange({ added, changed, removed }) {
      for (const id of removed) seen.delete(id);
      const news = [...added, ...changed.filter((id) => !added.includes(id))].filter((id) => isNew(id) || added.includes(id));
      for (const id of news) {
        if (!added.includes(id)) resolver.forget(id);
        pack(id, "arrival");
      }
      // Adapters that came before any checkpoint of their family had nothing to be packed for.
      const entries = catalog.snapshot().entries;
      const families = new Set(
        news
          .flatMap((id) => entries.get(id) ?? [])
          .flatMap(({ kind, family, problem }) => (kind === "checkpoint" && problem === null ? [family] : [])),
      );
      if (families.size === 0) return;
      for (const { id, kind, family } of entries.values())
        if (kind === "adapter" && !news.includes(id) && (family === null || families.has(family)) && resolver.deltaState(id) === "none")
          pack(id, "arrival");
    },
    all() {
      for (const id of catalog.snapshot().entries.keys()) pack(id, "idle");
    },
  };
}

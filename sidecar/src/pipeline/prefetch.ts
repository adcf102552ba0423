// Work ahead of need: deltas of adapters that arrive, the stacks that were used last. Never in a user's way (jobs yield to steps).

import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { Catalog, CatalogChange } from "../catalog/index.ts";
import type { Scheduler, Urgency } from "../jobs/index.ts";
import type { MergeMode } from "../terms/index.ts";
import type { RunRequest } from "./runs.ts";
import type { Resolver } from "./wanted.ts";

export interface PrefetchParts {
  readonly catalog: Catalog;
  readonly resolver: Resolver;
  readonly jobs: Scheduler;
  readonly mode: () => MergeMode;
  /** Checkpoint ids whose engines are loaded, most wanted first. */
  readonly inUse: () => readonly string[];
}

/** Without a loaded engine the newest checkpoints of a family stand for what will be wanted. */
const guessedCheckpoints = 2;

export interface Prefetch {
  /** Packs what a catalog change brought, for the checkpoints it will likely be used with. */
  readonly onChange: (change: CatalogChange) => void;
  /** Packs every adapter that fits, in the background. */
  readonly all: () => void;
}

export function createPrefetch({ catalog, resolver, jobs, mode, inUse }: PrefetchParts): Prefetch {
  function checkpointsFor(family: string | null): readonly string[] {
    const usable = [...catalog.snapshot().entries.values()].filter((entry) => entry.kind === "checkpoint" && entry.problem === null && (family === null || entry.family === family));
    const ids = new Set(usable.map((entry) => entry.id));
    const loaded = inUse().filter((id) => ids.has(id));
    if (loaded.length > 0) return loaded;
    // One checkpoint per structure: a delta belongs to a structure, not to a checkpoint.
    const byStructure = new Map(usable.flatMap((entry) => (entry.kind === "checkpoint" && entry.structure !== null ? [[entry.structure, entry.id] as const] : [])));
    return [...byStructure.values()].slice(0, guessedCheckpoints);
  }

  function pack(id: string, urgency: Urgency): void {
    const entry = catalog.snapshot().entries.get(id);
    if (entry?.kind !== "adapter" || entry.problem !== null) return;
    for (const checkpoint of checkpointsFor(entry.family)) {
      jobs
        .submit({
          key: `delta ${id} ${checkpoint} ${mode()}`,
          kind: "delta",
          title: `Prepare ${entry.name}`,
          urgency,
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
      for (const id of changed) {
        if (!isNew(id)) continue;
        resolver.forget(id);
        pack(id, "arrival");
      }
      for (const id of added) {
        isNew(id);
        pack(id, "arrival");
      }
    },
    all() {
      for (const id of catalog.snapshot().entries.keys()) pack(id, "idle");
    },
  };
}

/** Requests that were prepared last, newest first; kept between runs so that a restart warms what is likely wanted. */
export interface LastUsed {
  readonly note: (request: RunRequest) => void;
  readonly load: () => Promise<readonly RunRequest[]>;
  readonly flush: () => Promise<void>;
}

const keptRequests = 8;

export function createLastUsed(path: string): LastUsed {
  let recent: RunRequest[] = [];
  let writing: Promise<void> = Promise.resolve();
  const key = (request: RunRequest) => JSON.stringify([request.checkpoint, request.stack, request.mode, request.precision, request.host, request.residuals]);

  async function save(): Promise<void> {
    const temp = `${path}.${process.pid}.tmp`;
    await mkdir(dirname(path), { recursive: true });
    await writeFile(temp, JSON.stringify({ version: 1, recent }), { mode: 0o600, flush: true });
    await rename(temp, path);
  }

  return {
    note(request) {
      if (recent[0] !== undefined && key(recent[0]) === key(request)) return;
      recent = [request, ...recent.filter((other) => key(other) !== key(request))].slice(0, keptRequests);
      // A list that cannot be kept costs a warm start, nothing else.
      writing = writing.then(save).catch(() => undefined);
    },
    async load() {
      try {
        const saved = JSON.parse(await readFile(path, "utf8")) as { version: number; recent: RunRequest[] };
        if (saved.version === 1 && Array.isArray(saved.recent)) recent = saved.recent.slice(0, keptRequests);
      } catch {
        // None yet, or damaged: it is written anew with the next run.
      }
      return recent;
    },
    flush: () => writing,
  };
}

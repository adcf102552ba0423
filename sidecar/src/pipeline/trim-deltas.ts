// Keeps the folder of cached deltas within its budget: the least recently used go first.

import { open, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";

export interface DeltaTrimmer {
  /** This delta was just used or made. */
  readonly used: (path: string) => void;
  /** Resolves when nothing is being removed. */
  readonly idle: () => Promise<void>;
}

/** What a killed writer left behind; nobody writes one file for so long. */
const abandonedMs = 3_600_000;

/** Its time of use is kept beside a delta, as the time of an empty file: a host compares the delta's own times before and after reading. A minute is fine enough and spares the disk. */
const stampEveryMs = 60_000;
const useFile = (path: string): string => `${path}.used`;

async function stampUse(path: string): Promise<void> {
  const handle = await open(useFile(path), "a", 0o600);
  try {
    const now = new Date();
    await handle.utimes(now, now);
  } finally {
    await handle.close();
  }
}

/**
 * `inUse` are paths that must stay. A removed delta is made again when it is wanted: the folder is a cache. Failures to stamp or to remove are no
 * concern of a run; the next trim tries again.
 */
export function createDeltaTrimmer(folder: string, maxBytes: () => number, inUse: () => ReadonlySet<string>): DeltaTrimmer {
  const stamped = new Map<string, number>();
  let trimming: Promise<void> | null = null;

  async function trim(): Promise<void> {
    const names = await readdir(folder).catch((): string[] => []);
    const files = await Promise.all(
      names
        .filter((name) => name.endsWith(".delta"))
        .map(async (name) => {
          const path = join(folder, name);
          const found = await stat(path).catch(() => null);
          const used = await stat(useFile(path)).catch(() => null);
          return found === null ? null : { path, bytes: found.size, usedAtMs: Math.max(found.mtimeMs, used?.mtimeMs ?? 0) };
        }),
    );
    for (const name of names) {
      if (!name.endsWith(".tmp")) continue;
      const found = await stat(join(folder, name)).catch(() => null);
      if (found !== null && Date.now() - found.mtimeMs > abandonedMs) await rm(join(folder, name), { force: true }).catch(() => undefined);
    }
    const present = new Set(names);
    for (const name of names)
      if (name.endsWith(".used") && !present.has(name.slice(0, -".used".length)))
        await rm(join(folder, name), { force: true }).catch(() => undefined);
    const known = files.filter((file) => file !== null).toSorted((a, b) => a.usedAtMs - b.usedAtMs);
    let total = known.reduce((sum, { bytes }) => sum + bytes, 0);
    for (const { path, bytes } of known) {
      if (total <= maxBytes()) return;
      if (inUse().has(path)) continue;
      await rm(path, { force: true }).catch(() => undefined);
      await rm(useFile(path), { force: true }).catch(() => undefined);
      stamped.delete(path);
      total -= bytes;
    }
  }

  return {
    used(path) {
      const nowMs = performance.now();
      const before = stamped.get(path);
      if (before !== undefined && nowMs - before < stampEveryMs) return;
      stamped.set(path, nowMs);
      const stamping = stampUse(path).catch(() => undefined);
      trimming ??= stamping.then(trim).finally(() => void (trimming = null));
    },
    idle: async () => {
      while (trimming !== null) await trimming;
    },
  };
}

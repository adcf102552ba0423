// The stage's door for the pipeline: any number of folders, one stream of events.

import { createHash } from "node:crypto";
import { resolve } from "node:path";
import pLimit from "p-limit";
import { createDisk } from "./disk.ts";
import { watchFolder } from "./folder.ts";
import type { FolderWatch } from "./folder.ts";
import { createInodes } from "./inodes.ts";
import { resolveArrivalsOptions } from "./options.ts";
import type { FolderSpec, GivenArrivalsOptions } from "./options.ts";
import { systemClock } from "./world.ts";
import type { ArrivalEvent, ArrivalListener, WatchedFolder } from "./types.ts";
import { startChokidar } from "./watch.ts";

export interface Arrivals {
  /** Watches and scans every folder. Resolves after the first scan: every file old enough to be judged at once has been reported. */
  readonly start: () => Promise<void>;
  /** Looks at every file of every folder again. */
  readonly rescan: () => Promise<void>;
  /** Replaces the set of folders; those that stay are not disturbed. Resolves when new ones have been scanned. */
  readonly setFolders: (folders: readonly FolderSpec[]) => Promise<void>;
  /** Another quiet window, for every file from now on. */
  readonly setQuiet: (quietMs: number) => void;
  readonly folders: () => readonly WatchedFolder[];
  /** Returns the function that ends the subscription. */
  readonly subscribe: (listener: ArrivalListener) => () => void;
  readonly close: () => Promise<void>;
}

/** Disk calls in flight at one time over all folders: enough to keep a drive busy, far from any limit of open files. */
const diskCalls = 32;

/** Opaque, and the same on every start: it is part of every id that clients use. On Windows `c:\\Models` and `C:\\models` are one folder, and programs write either. */
export function folderKey(path: string, platform: NodeJS.Platform = process.platform): string {
  const name = resolve(path).normalize("NFC");
  return createHash("sha256")
    .update(platform === "win32" ? name.toLowerCase() : name)
    .digest("hex")
    .slice(0, 8);
}

export function createArrivals(given: GivenArrivalsOptions): Arrivals {
  const options = resolveArrivalsOptions(given);
  const clock = given.clock ?? systemClock;
  const files = given.files ?? createDisk(given.platform);
  const startWatch = given.startWatch ?? startChokidar;
  const lane = pLimit(diskCalls);
  const inodes = createInodes();
  const listeners = new Set<ArrivalListener>();
  const watched = new Map<string, { readonly folder: WatchedFolder; readonly watch: FolderWatch }>();
  let wanted = given.folders;
  let started = false;

  const emit = (batch: readonly ArrivalEvent[]) => {
    for (const listener of listeners) listener(batch);
  };

  const add = async (spec: FolderSpec): Promise<void> => {
    const path = resolve(spec.path);
    const key = folderKey(path);
    if (watched.has(key)) return;
    const folder: WatchedFolder = { key, path, kind: spec.kind };
    const release = (left: { readonly folder: WatchedFolder; readonly path: string }) =>
      watched.get(left.folder.key)?.watch.release(left.path);
    const watch = watchFolder({ folder, options, files, clock, startWatch, lane, inodes, emit, release });
    watched.set(key, { folder, watch });
    await watch.start();
  };

  const applyFolders = async (): Promise<void> => {
    const keys = new Set(wanted.map((spec) => folderKey(spec.path)));
    for (const [key, { folder, watch }] of watched) {
      if (keys.has(key)) continue;
      watched.delete(key);
      await watch.close();
      emit([{ type: "dropped", folder, atMs: clock.nowMs() }]);
    }
    await Promise.all(wanted.map(add));
  };

  return {
    async start() {
      started = true;
      await applyFolders();
    },
    setQuiet(quietMs) {
      // One object that every folder's tracker looks into each time it decides.
      Object.assign(options.limits, resolveArrivalsOptions({ ...given, quietMs }).limits);
    },
    async rescan() {
      await Promise.all([...watched.values()].map(({ watch }) => watch.rescan()));
    },
    async setFolders(folders) {
      wanted = folders;
      if (started) await applyFolders();
    },
    folders: () => [...watched.values()].map(({ folder }) => folder),
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    async close() {
      listeners.clear();
      const open = [...watched.values()];
      watched.clear();
      await Promise.all(open.map(({ watch }) => watch.close()));
    },
  };
}

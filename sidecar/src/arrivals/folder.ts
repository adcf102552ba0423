// One watched folder: its watch, its scans, and what happens when it is unmounted or comes back. In: hints and time. Out: events through the tracker.

import { basename, sep } from "node:path";
import type { LimitFunction } from "p-limit";
import { classifyName, controlledFile } from "./candidates.ts";
import type { Inodes } from "./inodes.ts";
import type { ArrivalsOptions } from "./options.ts";
import type { Clock, Files, Look, StartWatch, Watch } from "./world.ts";
import { scanFolder } from "./scan.ts";
import { createTracker } from "./tracker.ts";
import type { ArrivalListener, Place, WatchedFolder } from "./types.ts";

export interface FolderParts {
  readonly folder: WatchedFolder;
  readonly options: ArrivalsOptions;
  readonly files: Files;
  readonly clock: Clock;
  readonly startWatch: StartWatch;
  readonly lane: LimitFunction;
  readonly inodes: Inodes;
  readonly emit: ArrivalListener;
  readonly release: (left: Place) => void;
}

export interface FolderWatch {
  readonly start: () => Promise<void>;
  readonly rescan: () => Promise<void>;
  readonly release: (path: string) => void;
  readonly close: () => Promise<void>;
}

/** After a hint about a whole folder, others usually follow (a folder of models is being copied). */
const scanDelayMs = 50;
/** Long enough for a watch to be set up on a busy disk. */
const watchUpMs = 400;

/** Disk calls of one scan in flight. */
const looksAtOneTime = 32;

async function eachOf<T>(items: readonly T[], width: number, task: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const run = async () => {
    for (let item = items[next++]; item !== undefined; item = items[next++]) await task(item);
  };
  await Promise.all(Array.from({ length: width }, run));
}

export function watchFolder(parts: FolderParts): FolderWatch {
  const { folder, options, files, clock } = parts;
  let watch: Watch | null = null;
  let blind = options.poll;
  let folders: ReadonlySet<string> = new Set();
  let root: { readonly device: bigint; readonly inode: bigint } | null = null;
  let lost = false;
  let rewatchDue = false;
  let closed = false;
  let scanning: Promise<void> | null = null;
  let scanAgain = false;
  let cancelNextScan = () => {};
  let soon: { readonly atMs: number; readonly cancel: () => void } | null = null;

  const lose = (code: string) => {
    if (!lost && !closed) parts.emit([{ type: "lost", folder, code, atMs: clock.nowMs() }]);
    lost = true;
  };

  /** An empty folder of another device or inode is the bare mount point of a drive that is gone. */
  const isBareMountPoint = async (found: Look & { is: "folder" }): Promise<boolean> => {
    if (root === null || (root.device === found.device && root.inode === found.inode)) return false;
    const listing = await files.list(folder.path);
    return "error" in listing || listing.entries.length === 0;
  };

  const isFolderThere = async (): Promise<boolean> => {
    const found = await files.look(folder.path, true);
    if (found.is !== "folder") lose(found.is === "unreadable" ? found.code : "ENOENT");
    else if (tracker.paths().length > 0 && (await isBareMountPoint(found))) lose("ENOENT");
    else return true;
    return false;
  };

  const tracker = createTracker({ ...parts, limits: options.limits, isFolderThere });

  const rewatch = async () => {
    const before = watch;
    watch = null;
    await before?.close();
    if (closed || blind) return;
    watch = parts.startWatch({
      touched: (path) => void touched(path),
      doubtful: () => scanSoon(scanDelayMs),
      blind: () => {
        blind = true;
        void watch?.close();
        watch = null;
        scanSoon(scanDelayMs);
      },
    });
  };

  const scanOnce = async (): Promise<void> => {
    if (!(await isFolderThere()) || closed) return;
    const found = await files.look(folder.path, true);
    if (found.is !== "folder") return;
    const moved = root === null || root.device !== found.device || root.inode !== found.inode;
    root = { device: found.device, inode: found.inode };
    if (moved) rewatchDue = true;
    rewatchDue ||= lost;
    lost = false;
    const scan = await scanFolder(folder.path, files);
    if (closed) return;
    if (scan.unreadable.some((entry) => entry.path === folder.path)) return lose(scan.unreadable[0]?.code ?? "ENOENT");
    folders = new Set(scan.folders);
    const seen = new Set(scan.found);
    const hidden = scan.unreadable.map((entry) => entry.path + sep);
    const unseen = tracker.paths().filter((path) => !seen.has(path) && !hidden.some((prefix) => path.startsWith(prefix)));
    await Promise.all(unseen.map((path) => tracker.look(path)));
    await eachOf(scan.found, looksAtOneTime, (path) => tracker.look(path, true));
    if (closed || lost) return;
    if (rewatchDue) {
      rewatchDue = false;
      await rewatch();
    }
    if (closed) return;
    // What happened in a folder before it was watched is found by another scan, when the watch is surely up.
    if (watch?.cover(scan.folders, scan.links) === true) scanSoon(watchUpMs);
    parts.emit([{ type: "scanned", folder, unreadable: scan.unreadable.map((entry) => entry.path), atMs: clock.nowMs() }]);
  };

  const scan = (): Promise<void> => {
    if (scanning !== null) {
      scanAgain = true;
      return scanning;
    }
    cancelNextScan();
    scanning = (async () => {
      do {
        scanAgain = false;
        await scanOnce();
      } while (scanAgain && !closed);
      scanning = null;
      if (closed) return;
      cancelNextScan = clock.after(blind || lost ? options.pollMs : options.rescanMs, () => void scan());
    })();
    return scanning;
  };

  const scanSoon = (delayMs: number) => {
    if (closed) return;
    const atMs = clock.nowMs() + delayMs;
    if (soon !== null && soon.atMs <= atMs) return;
    soon?.cancel();
    const cancel = clock.after(delayMs, () => {
      soon = null;
      void scan();
    });
    soon = { atMs, cancel };
  };

  const touched = async (path: string): Promise<void> => {
    if (closed) return;
    const name = basename(path);
    if (classifyName(name) !== "ignored") return tracker.look(path);
    const controlled = controlledFile(path);
    if (controlled !== null) return tracker.inspect(controlled);
    if (path === folder.path) return scanSoon(scanDelayMs);
    const found = await files.look(path);
    if (closed) return;
    if (found.is === "file") parts.inodes.pass(path, found.stamp);
    else if (found.is === "folder" || folders.has(path)) scanSoon(scanDelayMs);
  };

  return {
    start: scan,
    rescan: scan,
    release: tracker.release,
    async close() {
      closed = true;
      cancelNextScan();
      soon?.cancel();
      tracker.close();
      await watch?.close();
      await scanning;
    },
  };
}

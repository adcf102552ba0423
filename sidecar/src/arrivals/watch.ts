// chokidar turned into hints. Edge: the only place that knows the watcher.
//
// chokidar is asked to watch folders, not files: one system watch a folder instead of one a file keeps 10,000 files within the limits of inotify.
// The names of changed files come with the folder watch's `raw` event. Only links are watched one by one, because what they point to lies elsewhere.

import { basename, join } from "node:path";
import { watch } from "chokidar";
import { errorCode } from "./error-code.ts";
import type { StartWatch } from "./ports.ts";

/** No watch can be had: too many watches or handles, or a file system without events. */
const blindCodes = new Set(["ENOSPC", "EMFILE", "ENOSYS", "ENOTSUP", "EOPNOTSUPP"]);

/** More hints than this within `burstMs`, and the system's own queue (16,384 events on Linux) may have overflowed without a word. */
const burstHints = 2000;
const burstMs = 1000;
/** chokidar lists a new folder before it watches it; a file that lands in between is found by a second look. */
const secondLookMs = 400;

export const startChokidar: StartWatch = (root, hints) => {
  const links = new Set<string>();
  const timers = new Set<NodeJS.Timeout>();
  let count = 0;
  let closed = false;
  const later = (delayMs: number, task: () => void) => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      task();
    }, delayMs);
    timers.add(timer);
  };
  const touched = (path: string) => {
    if (closed) return;
    count += 1;
    if (count === 1) later(burstMs, () => {
      if (count > burstHints) hints.doubtful(root);
      count = 0;
    });
    hints.touched(path);
  };
  const doubtful = (folder: string) => {
    hints.doubtful(folder);
    later(secondLookMs, () => hints.doubtful(folder));
  };
  const watcher = watch(root, {
    ignoreInitial: true,
    ignorePermissionErrors: true,
    followSymlinks: true,
    // Ours is the better one: it knows that a rename took place (settle.ts).
    atomic: false,
    ignored: (path, stats) => {
      if (stats?.isSymbolicLink() === true) links.add(path);
      return stats?.isFile() === true && !links.has(path);
    },
  });
  watcher.on("raw", (_event, name, details) => {
    const watched = typeof details === "object" && details !== null && "watchedPath" in details ? String(details.watchedPath) : null;
    if (watched === null) return;
    const named = typeof name === "string" && name !== "" && !links.has(watched);
    if (named) touched(join(watched, name));
    // A folder that is itself moved or deleted is told under its own name.
    if (!named || name === basename(watched)) touched(watched);
  });
  watcher.on("all", (event, path) => {
    if (event === "addDir") doubtful(path);
    else touched(path);
  });
  // Between the first scan and this moment nothing was watched.
  watcher.on("ready", () => hints.doubtful(root));
  watcher.on("error", (error) => {
    const code = errorCode(error);
    if (blindCodes.has(code)) hints.blind(code);
    else hints.doubtful(root);
  });
  return {
    async close() {
      closed = true;
      for (const timer of timers) clearTimeout(timer);
      await watcher.close();
    },
  };
};

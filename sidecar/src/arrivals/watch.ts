// chokidar turned into hints. Edge: the only place that knows the watcher.
//
// It is told which folders to watch, because the scan knows them anyway, and watches nothing below them by itself. One system watch a folder instead of
// one a file keeps 10,000 files within the limits of inotify; the names of changed files come with the folder's `raw` event. Links to files are watched
// one by one, because what they point to lies elsewhere.

import { basename, join } from "node:path";
import { FSWatcher } from "chokidar";
import { errorCode } from "./error-code.ts";
import type { StartWatch } from "./world.ts";

/** No watch can be had: too many watches or handles, or a file system without events. */
const blindCodes = new Set(["ENOSPC", "EMFILE", "ENOSYS", "ENOTSUP", "EOPNOTSUPP"]);

/** More hints than this within `burstMs`, and the system's own queue (16,384 events on Linux) may have overflowed without a word. */
const burstHints = 2000;
const burstMs = 1000;

/**
 * chokidar lists a folder, with an `lstat` of every file in it, at every event in it: while one file was copied into a folder of 2,000, that took one and
 * a half processor cores. Nothing is lost without: what is in a folder is the scan's business.
 */
class ListlessWatcher extends FSWatcher {
  override _readdirp(): undefined {
    return undefined;
  }
}

export const startChokidar: StartWatch = (hints) => {
  const watched = new Set<string>();
  let links: ReadonlySet<string> = new Set();
  let count = 0;
  let burst: NodeJS.Timeout | null = null;
  let closed = false;
  const touched = (path: string) => {
    if (closed) return;
    count += 1;
    burst ??= setTimeout(() => {
      burst = null;
      if (count > burstHints) hints.doubtful();
      count = 0;
    }, burstMs);
    hints.touched(path);
  };
  const watcher = new ListlessWatcher({
    ignoreInitial: true,
    ignorePermissionErrors: true,
    followSymlinks: true,
    // Ours is the better one: it knows that a rename took place (settle.ts).
    atomic: false,
  });
  watcher.on("raw", (_event, name, details) => {
    const at = typeof details === "object" && details !== null && "watchedPath" in details ? String(details.watchedPath) : null;
    if (at === null) return;
    const named = typeof name === "string" && name !== "" && !links.has(at);
    if (named) touched(join(at, name));
    // A folder that is itself moved or deleted is told under its own name.
    if (!named || name === basename(at)) touched(at);
  });
  watcher.on("change", touched);
  watcher.on("unlink", touched);
  watcher.on("error", (error) => {
    const code = errorCode(error);
    if (blindCodes.has(code)) hints.blind(code);
    else hints.doubtful();
  });
  return {
    cover(folders, newLinks) {
      links = new Set(newLinks);
      const wanted = new Set([...folders, ...newLinks]);
      const added = [...wanted].filter((path) => !watched.has(path));
      const dropped = [...watched].filter((path) => !wanted.has(path));
      for (const path of dropped) watched.delete(path);
      for (const path of added) watched.add(path);
      if (dropped.length > 0) watcher.unwatch(dropped);
      if (added.length > 0) watcher.add(added);
      return added.length > 0;
    },
    async close() {
      closed = true;
      if (burst !== null) clearTimeout(burst);
      await watcher.close();
    },
  };
};

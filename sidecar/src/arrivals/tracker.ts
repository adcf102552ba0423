// Follows every model file of one folder from first sight to settled, gone or refused. In: paths that may have changed. Out: batches of events.
// Decisions are settle.ts's; here are the order of things: one look at a path at a time, timers, renames.

import { basename, relative, sep } from "node:path";
import type { LimitFunction } from "p-limit";
import { classifyName, isDecodable } from "./candidates.ts";
import type { Inodes } from "./inodes.ts";
import type { Limits } from "./options.ts";
import type { Clock, Files } from "./world.ts";
import { isOld, judge, restamped, startSettling } from "./settle.ts";
import type { Origin, Settling } from "./settle.ts";
import { sameContentStamp, sameStamp } from "../files/index.ts";
import type { ArrivalEvent, ArrivalListener, Place, RefusalCode, WatchedFolder } from "./types.ts";
import type { Stamp } from "../files/index.ts";

type Track =
  | Settling
  | { readonly phase: "settled"; readonly stamp: Stamp }
  /** `retry`: could not be opened, which may end without any change that a stamp would show. */
  | { readonly phase: "refused"; readonly stamp: Stamp | null; readonly retry: boolean };

export interface TrackerParts {
  readonly folder: WatchedFolder;
  readonly files: Files;
  readonly clock: Clock;
  readonly limits: Limits;
  readonly lane: LimitFunction;
  readonly inodes: Inodes;
  readonly emit: ArrivalListener;
  /** Asked before a file is called gone: an unmounted folder has lost its files, they have not been deleted. */
  readonly isFolderThere: () => Promise<boolean>;
  /** A file of this or another folder has been found under a new name; its tracker must not report it a second time. */
  readonly release: (left: Place) => void;
}

export interface Tracker {
  /** Resolves when the path has been looked at (not when it has settled). `scanned`: found by a scan, so an old file is taken as whole. */
  readonly look: (path: string, scanned?: boolean) => Promise<void>;
  /** As `look`, and takes a look inside even if its stamp has not moved, should it still be settling. */
  readonly inspect: (path: string) => Promise<void>;
  readonly paths: () => readonly string[];
  /** Forgets a path without a word. */
  readonly release: (path: string) => void;
  readonly close: () => void;
}

/** A path is looked at again at the earliest after this; a fast copy sends thousands of events a second. */
const lookSpacingMs = 20;

export function createTracker(parts: TrackerParts): Tracker {
  const { folder, files, clock, limits, lane, inodes, emit } = parts;
  const tracks = new Map<string, Track>();
  /** Paths the outside has heard of. */
  const announced = new Set<string>();
  const timers = new Map<string, () => void>();
  const missingSinceMs = new Map<string, number>();
  const looking = new Map<string, { again: boolean }>();
  /** Of settling files only: when each was last looked at. */
  const lookedAtMs = new Map<string, number>();
  let closed = false;

  const placeOf = (path: string): Place => ({ folder, path, name: relative(folder.path, path).split(sep).join("/") });
  const later = (path: string, delayMs: number) => {
    timers.get(path)?.();
    timers.set(
      path,
      clock.after(delayMs, () => {
        timers.delete(path);
        void look(path, false, true);
      }),
    );
  };

  const settle = (path: string, stamp: Stamp, arrivedAtMs: number, renamedFrom: Place | null) => {
    const place = placeOf(path);
    tracks.set(path, { phase: "settled", stamp });
    lookedAtMs.delete(path);
    announced.add(path);
    if (renamedFrom !== null) parts.release(renamedFrom);
    const nowMs = clock.nowMs();
    const batch: ArrivalEvent[] = [];
    if (renamedFrom !== null) batch.push({ ...renamedFrom, type: "gone", atMs: nowMs });
    batch.push({ ...place, type: "settled", stamp, arrivedAtMs, settledAtMs: nowMs, ...(renamedFrom === null ? {} : { renamedFrom }) });
    inodes.settle(place, stamp);
    emit(batch);
  };

  const refuse = (path: string, stamp: Stamp | null, code: RefusalCode, message: string, retry: boolean) => {
    tracks.set(path, { phase: "refused", stamp, retry });
    announced.add(path);
    emit([{ ...placeOf(path), type: "refused", code, message, stamp, atMs: clock.nowMs() }]);
  };

  const forget = (path: string): boolean => {
    const track = tracks.get(path);
    if (track?.stamp) inodes.forget(placeOf(path), track.stamp);
    tracks.delete(path);
    missingSinceMs.delete(path);
    lookedAtMs.delete(path);
    timers.get(path)?.();
    timers.delete(path);
    return announced.delete(path);
  };

  /** The name it had before, when that name is no longer there. */
  const leftName = async (place: Place | null): Promise<Place | null> => {
    if (place === null) return null;
    return (await files.look(place.path)).is === "missing" ? place : null;
  };

  const inspect = async (path: string, before: Settling, wasSettled: boolean): Promise<void> => {
    const mark = await lane(() => files.mark(path));
    // Closed, or found under another name, while the disk was read.
    if (closed || tracks.get(path) !== before) return;
    const nowMs = clock.nowMs();
    const { track, verdict } = judge(before, mark, nowMs, limits);
    if (verdict.do === "settle") return settle(path, track.stamp, track.arrivedAtMs, null);
    if (verdict.do === "refuse") return refuse(path, track.stamp, verdict.code, verdict.message, mark.state === "unreadable");
    tracks.set(path, track);
    later(path, Math.max(0, verdict.untilMs - nowMs));
    if (wasSettled) emit([{ ...placeOf(path), type: "changed", atMs: nowMs }]);
  };

  const fileSeen = async (path: string, stamp: Stamp, scanned: boolean, due: boolean): Promise<void> => {
    missingSinceMs.delete(path);
    const known = tracks.get(path);
    const nowMs = clock.nowMs();
    if (known !== undefined && known.phase !== "settling" && known.stamp !== null && sameStamp(known.stamp, stamp)) {
      if (!(known.phase === "refused" && known.retry && scanned)) return;
      if ((await lane(() => files.mark(path))).state === "unreadable" || tracks.get(path) !== known) return;
    }
    if (classifyName(basename(path)) === "refused") {
      if (known?.phase === "refused") return;
      return refuse(
        path,
        stamp,
        "ARRIVALS_UNSUPPORTED_FORMAT",
        "expected a .safetensors file; pickle formats can run code when read and GGUF cannot be merged in place. Convert it to safetensors.",
        false,
      );
    }
    if (known?.phase === "settling") {
      const track = sameStamp(known.stamp, stamp) ? known : restamped(known, stamp, nowMs);
      tracks.set(path, track);
      const replaced = track !== known && track.arrivedAtMs === nowMs;
      const reached = track !== known && track.expectedBytes === stamp.sizeBytes;
      if (due || replaced || reached) return inspect(path, track, false);
      if (track !== known) later(path, Math.min(limits.quietMs, limits.pulseMs));
      return;
    }
    const replaced =
      known === undefined || known.stamp === null || known.stamp.inode !== stamp.inode || known.stamp.device !== stamp.device;
    const elsewhere = replaced ? inodes.elsewhere(path, stamp) : null;
    if (elsewhere?.place) {
      const left = await leftName(elsewhere.place);
      return settle(path, stamp, nowMs, left);
    }
    if (scanned && isOld(stamp, clock.wallMs(), limits)) return settle(path, stamp, nowMs, null);
    const origin: Origin = elsewhere !== null ? "renamed" : replaced ? "appeared" : "rewritten";
    const track = startSettling(stamp, nowMs, origin);
    tracks.set(path, track);
    // A change of attributes alone is not a rewrite: nobody needs to hear of it before the header has been compared.
    const rewritten = known?.phase === "settled" && !(known.stamp !== null && sameContentStamp(known.stamp, stamp));
    return inspect(path, track, rewritten);
  };

  const missing = async (path: string): Promise<void> => {
    if (!tracks.has(path)) return;
    const nowMs = clock.nowMs();
    const sinceMs = missingSinceMs.get(path) ?? nowMs;
    missingSinceMs.set(path, sinceMs);
    if (nowMs < sinceMs + limits.goneGraceMs) return later(path, sinceMs + limits.goneGraceMs - nowMs);
    if (!(await parts.isFolderThere()) || closed || !tracks.has(path)) return;
    const place = placeOf(path);
    if (forget(path)) emit([{ ...place, type: "gone", atMs: clock.nowMs() }]);
  };

  const lookOnce = async (path: string, scanned: boolean, due: boolean): Promise<void> => {
    if (!isDecodable(path))
      return refuse(
        path,
        null,
        "ARRIVALS_NAME_NOT_UTF8",
        "expected a file name in UTF-8; this one cannot be opened by name. Rename it.",
        false,
      );
    // A scan keeps its own number of looks in flight.
    const found = await (scanned ? files.look(path, true) : lane(() => files.look(path)));
    if (closed) return;
    switch (found.is) {
      case "file":
        return fileSeen(path, found.stamp, scanned, due);
      case "missing":
        return missing(path);
      case "folder":
      case "irregular": {
        const known = tracks.get(path);
        if (known?.phase === "refused" && known.stamp === null) return;
        const what = found.is === "folder" ? "a folder" : found.what;
        return refuse(
          path,
          null,
          "ARRIVALS_NOT_A_REGULAR_FILE",
          `expected a regular file or a link to one; this is ${what}. Put the file itself here.`,
          false,
        );
      }
      case "unreadable": {
        // A known file stays known: the disk or the network is in trouble, which the folder's own check reports.
        if (tracks.has(path) || !(await parts.isFolderThere())) return;
        return refuse(
          path,
          null,
          "ARRIVALS_UNREADABLE",
          `expected a readable file; the system answers ${found.code}. Check permissions and the disk.`,
          true,
        );
      }
    }
  };

  const look = async (path: string, scanned = false, due = false): Promise<void> => {
    if (closed) return;
    const current = looking.get(path);
    if (current !== undefined) {
      current.again = true;
      return;
    }
    const nowMs = clock.nowMs();
    if (!due && timers.has(path) && nowMs < (lookedAtMs.get(path) ?? 0) + lookSpacingMs) return;
    if (tracks.get(path)?.phase === "settling") lookedAtMs.set(path, nowMs);
    const state = { again: false };
    looking.set(path, state);
    try {
      await lookOnce(path, scanned, due);
    } finally {
      looking.delete(path);
    }
    if (state.again && !closed && !timers.has(path)) later(path, lookSpacingMs);
  };

  return {
    look: (path, scanned = false) => look(path, scanned),
    inspect: (path) => look(path, false, true),
    paths: () => [...tracks.keys()],
    release: (path) => void forget(path),
    close() {
      closed = true;
      for (const cancel of timers.values()) cancel();
      timers.clear();
    },
  };
}

// Options of the stage: given by the caller, resolved with defaults. All times in milliseconds.

import type { Clock, Files, StartWatch } from "./world.ts";
import type { WatchedFolder } from "./types.ts";

export interface FolderSpec {
  readonly path: string;
  readonly kind: WatchedFolder["kind"];
}

export interface GivenArrivalsOptions {
  readonly folders: readonly FolderSpec[];
  /** Nothing may change about a file for this long before it counts as whole (default 100). Slow writers get a longer one by themselves. */
  readonly quietMs?: number;
  /** Look at every file at this interval instead of waiting for events; for network drives that send none (default off). */
  readonly poll?: boolean;
  readonly pollMs?: number;
  readonly rescanMs?: number;
  readonly clock?: Clock;
  readonly files?: Files;
  readonly startWatch?: StartWatch;
  readonly platform?: NodeJS.Platform;
}

/** Windows of time that decide when a file is whole. */
export interface Limits {
  readonly quietMs: number;
  /** A sampled page is all zeros: probably preallocated and not yet filled, so a pause between two writes must not count as the end. */
  readonly unfilledMs: number;
  /** File systems that keep whole seconds (some network drives, FAT keeps two) cannot show two writes within one. */
  readonly coarseClockMs: number;
  /** A writer that paused this long before is expected to pause so again: the window is `gapFactor` times its longest pause, at most `gapCapMs`. */
  readonly gapFactor: number;
  readonly gapCapMs: number;
  /** Part-written and untouched for this long: reported as incomplete. It may still go on later. */
  readonly incompleteMs: number;
  /** First seen by a scan with a modification time older than this: whole, without a look inside. */
  readonly oldMs: number;
  /** A file that vanished may be in the middle of being replaced (unlink, then rename). */
  readonly goneGraceMs: number;
  /** Writes through a memory map send no events, so a settling file is looked at this often. */
  readonly pulseMs: number;
  /** Change time after modification time proves that the last thing done was a rename or the like, not a write. Not on Windows and not on
   *  network drives, where the two are kept by different clocks. */
  readonly trustChangeTime: boolean;
}

export interface ArrivalsOptions {
  readonly limits: Limits;
  readonly poll: boolean;
  readonly pollMs: number;
  readonly rescanMs: number;
}

/** The windows of time that follow from the quiet window and from where the files lie. */
export function resolveArrivalsOptions(given: GivenArrivalsOptions): ArrivalsOptions {
  const quietMs = given.quietMs ?? 100;
  const poll = given.poll ?? false;
  const platform = given.platform ?? process.platform;
  return {
    limits: {
      quietMs,
      unfilledMs: Math.max(1500, quietMs),
      coarseClockMs: Math.max(2100, quietMs),
      gapFactor: 3,
      gapCapMs: Math.max(3000, quietMs),
      incompleteMs: Math.max(10_000, quietMs),
      oldMs: Math.max(3000, quietMs),
      goneGraceMs: 100,
      pulseMs: 1000,
      trustChangeTime: platform !== "win32" && !poll,
    },
    poll,
    pollMs: given.pollMs ?? 2000,
    rescanMs: given.rescanMs ?? 60_000,
  };
}

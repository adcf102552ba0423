// When is a file whole? Pure: what was seen of one file, and the time, in; a verdict out.
//
// A file that is being written shows at least one of: a length that does not match its header, a moving stamp, or zeros where data will be. So it
// counts as whole when its header's length equals its own and stamp and header stayed the same over a quiet window, which is short for a file
// that looks filled and long for one that may have been preallocated. A rename needs no window: only a whole file is renamed into place.

import type { Limits } from "./options.ts";
import type { Mark } from "./world.ts";
import { sameStamp } from "../files/index.ts";
import type { RefusalCode } from "./types.ts";
import type { Stamp } from "../files/index.ts";

/** How the content came to this name: renamed or linked here from a name that was seen before, first seen here, or rewritten in place. */
export type Origin = "renamed" | "appeared" | "rewritten";

/** One file on its way to being settled. */
export interface Settling {
  readonly phase: "settling";
  readonly stamp: Stamp;
  readonly origin: Origin;
  /** When this content first showed under this name. */
  readonly arrivedAtMs: number;
  /** When its stamp or header was last seen to change. */
  readonly changedAtMs: number;
  readonly longestGapMs: number;
  /** Header seen whole, and since when; null before that and after every change of the stamp. */
  readonly header: { readonly digest: string; readonly sinceMs: number } | null;
  /** Length that the header asked for when it was last seen; a growing file is worth a look the moment it has it. */
  readonly expectedBytes: number | null;
}

export type Verdict =
  | { readonly do: "settle" }
  | { readonly do: "refuse"; readonly code: RefusalCode; readonly message: string }
  | { readonly do: "wait"; readonly untilMs: number };

export function startSettling(stamp: Stamp, nowMs: number, origin: Origin): Settling {
  return { phase: "settling", stamp, origin, arrivedAtMs: nowMs, changedAtMs: nowMs, longestGapMs: 0, header: null, expectedBytes: null };
}

/** The same name with a new stamp. A different inode means that another file was renamed over it. */
export function restamped(track: Settling, stamp: Stamp, nowMs: number): Settling {
  if (stamp.inode !== track.stamp.inode || stamp.device !== track.stamp.device) return startSettling(stamp, nowMs, "appeared");
  return { ...track, stamp, changedAtMs: nowMs, longestGapMs: Math.max(track.longestGapMs, nowMs - track.changedAtMs), header: null };
}

/** Nothing was written since the last rename, link or attribute change: the change time is later than the modification time, which every write sets equal. */
function endedByRename(track: Settling, limits: Limits): boolean {
  if (track.origin === "renamed") return true;
  return limits.trustChangeTime && track.origin === "appeared" && track.stamp.ctimeNs > track.stamp.mtimeNs;
}

function windowMs(track: Settling, filled: boolean, limits: Limits): number {
  const coarse = track.stamp.mtimeNs % 1_000_000_000n === 0n;
  return Math.max(
    limits.quietMs,
    filled ? 0 : limits.unfilledMs,
    coarse ? limits.coarseClockMs : 0,
    Math.min(track.longestGapMs * limits.gapFactor, limits.gapCapMs),
  );
}

function incomplete(track: Settling): string {
  const expected = track.expectedBytes === null ? "a whole header" : `${track.expectedBytes} bytes, as the header says`;
  return `expected ${expected}; the file has ${track.stamp.sizeBytes} bytes and is not being written to. Copy or download it again.`;
}

/** The track after a look inside. A mark with another stamp has seen a write that the track has not: the window starts again. */
function advanced(before: Settling, mark: Mark, nowMs: number): Settling {
  const moved = mark.state !== "unreadable" && !sameStamp(mark.stamp, before.stamp);
  const track = moved ? restamped(before, mark.stamp, nowMs) : before;
  if (mark.state === "partial") return { ...track, header: null, expectedBytes: mark.expectedBytes };
  if (mark.state !== "whole") return { ...track, header: null };
  if (track.header?.digest === mark.digest) return track;
  return { ...track, header: { digest: mark.digest, sinceMs: nowMs }, expectedBytes: mark.stamp.sizeBytes };
}

/** Judges a look inside that was taken just now. The returned track replaces the given one. */
export function judge(
  before: Settling,
  mark: Mark,
  nowMs: number,
  limits: Limits,
): { readonly track: Settling; readonly verdict: Verdict } {
  const track = advanced(before, mark, nowMs);
  const quietMs = nowMs - track.changedAtMs;
  const waitUntil = (untilMs: number): Verdict => ({ do: "wait", untilMs: Math.min(untilMs, nowMs + limits.pulseMs) });
  // Looked at less and less often: it is waited for because it may go on, and a change would be told.
  const lookAgainMs = Math.max(limits.pulseMs, quietMs);
  const refuseAfter = (ms: number, code: RefusalCode, message: string): Verdict =>
    quietMs >= ms ? { do: "refuse", code, message } : { do: "wait", untilMs: Math.min(track.changedAtMs + ms, nowMs + lookAgainMs) };
  const verdict = ((): Verdict => {
    switch (mark.state) {
      case "whole": {
        if (mark.filled && endedByRename(track, limits)) return { do: "settle" };
        const sinceMs = Math.max(track.changedAtMs, track.header?.sinceMs ?? nowMs);
        const untilMs = sinceMs + windowMs(track, mark.filled, limits);
        return nowMs >= untilMs ? { do: "settle" } : waitUntil(untilMs);
      }
      case "partial":
        return refuseAfter(limits.incompleteMs, "ARRIVALS_INCOMPLETE", incomplete(track));
      case "foreign":
        return refuseAfter(
          limits.unfilledMs,
          "ARRIVALS_NOT_SAFETENSORS",
          "expected a safetensors file; its first bytes are something else (a renamed pickle, a web page, a Git LFS pointer?). Get the .safetensors file.",
        );
      case "unreadable":
        return refuseAfter(
          limits.incompleteMs,
          "ARRIVALS_UNREADABLE",
          `expected a readable file; the system answers ${mark.code}. Check its permissions, or close the program that holds it.`,
        );
    }
  })();
  return { track, verdict };
}

/** Found by a scan and last written long ago by the wall clock. A modification time in the future proves nothing. */
export function isOld(stamp: Stamp, wallMs: number, limits: Limits): boolean {
  return wallMs - Number(stamp.mtimeNs / 1_000_000n) >= limits.oldMs;
}

// What arrivals needs from the world, so that tests can stand in for clocks, disks and watchers.

import type { Stamp } from "../files/index.ts";

export interface Clock {
  /** Monotonic milliseconds; unaffected by someone setting the clock. */
  readonly nowMs: () => number;
  /** Milliseconds since 1970, comparable with a file's mtime; may jump. */
  readonly wallMs: () => number;
  /** Runs `task` once after `delayMs`; returns the function that cancels it. */
  readonly after: (delayMs: number, task: () => void) => () => void;
}

/** What lies at a path, symlinks followed. A name that differs only in case or Unicode form from the listed one counts as missing. */
export type Look =
  | { readonly is: "file"; readonly stamp: Stamp }
  | { readonly is: "folder"; readonly device: bigint; readonly inode: bigint }
  | { readonly is: "missing" }
  | { readonly is: "irregular"; readonly what: string }
  | { readonly is: "unreadable"; readonly code: string };

export type Listing =
  | { readonly entries: readonly { readonly name: string; readonly kind: "file" | "folder" | "link" | "irregular" }[] }
  | { readonly error: string };

/** What a look into the file says about whether it is whole. */
export type Mark =
  /** Header and file agree on the length. `digest` covers the header; `filled` is false when a sampled page of the data is all zeros, as in a preallocated file. */
  | { readonly state: "whole"; readonly stamp: Stamp; readonly digest: string; readonly filled: boolean }
  /** Header not (yet) there, or a length that does not match (yet). */
  | { readonly state: "partial"; readonly stamp: Stamp; readonly expectedBytes: number | null }
  /** Its first bytes can never become a safetensors header. */
  | { readonly state: "foreign"; readonly stamp: Stamp }
  | { readonly state: "unreadable"; readonly code: string };

export interface Files {
  /** `listed`: the caller has just seen the name in its folder's listing, so its spelling need not be checked. */
  readonly look: (path: string, listed?: boolean) => Promise<Look>;
  readonly list: (folder: string) => Promise<Listing>;
  readonly mark: (path: string) => Promise<Mark>;
}

/** Hints only: a hint may be late, doubled or wrong, and a lost one is made good by the next rescan. */
export interface WatchHints {
  /** Something happened at this path. */
  readonly touched: (path: string) => void;
  /** Events may have been missed. */
  readonly doubtful: () => void;
  /** No events can be had for this root; poll it. `code` is the system's. */
  readonly blind: (code: string) => void;
}

export interface Watch {
  /** Watches exactly these: folders (for what happens in them, not below) and links to files (for what happens to their targets). True when any is new:
   *  what happened in it up to now has not been seen. */
  readonly cover: (folders: readonly string[], links: readonly string[]) => boolean;
  readonly close: () => Promise<void>;
}

export type StartWatch = (hints: WatchHints) => Watch;

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  after: (delayMs, task) => {
    const timer = setTimeout(task, delayMs);
    return () => clearTimeout(timer);
  },
};

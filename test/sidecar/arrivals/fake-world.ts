// A clock that only moves when told, and a disk in memory with renames, inodes and case folding, so that tests never sleep.

import { resolve } from "node:path";
import { basename, dirname } from "node:path/posix";
import type { ArrivalEvent, Clock, Files, Listing, Look, Mark, StartWatch, WatchHints } from "../../../sidecar/src/arrivals/index.ts";
import type { Stamp } from "../../../sidecar/src/files/index.ts";

export interface FakeClock extends Clock {
  /** Moves time on, running what falls due, and lets promises settle in between. */
  readonly advance: (ms: number) => Promise<void>;
  /** Someone sets the wall clock. */
  readonly jumpWall: (ms: number) => void;
}

async function drain(): Promise<void> {
  for (let turn = 0; turn < 30; turn += 1) await new Promise<void>((resolve) => setImmediate(resolve));
}

export function createFakeClock(): FakeClock {
  let now = 1000;
  let wallOffset = Date.UTC(2026, 10, 1);
  let serial = 0;
  const timers = new Map<number, { readonly at: number; readonly task: () => void }>();
  return {
    nowMs: () => now,
    wallMs: () => now + wallOffset,
    after(delayMs, task) {
      serial += 1;
      const id = serial;
      timers.set(id, { at: now + delayMs, task });
      return () => void timers.delete(id);
    },
    async advance(ms) {
      const end = now + ms;
      await drain();
      for (;;) {
        let at = Infinity;
        for (const timer of timers.values()) at = Math.min(at, timer.at);
        if (at > end) break;
        now = Math.max(now, at);
        for (const [id, timer] of timers) {
          if (timer.at > at) continue;
          timers.delete(id);
          timer.task();
        }
        await drain();
      }
      now = end;
      await drain();
    },
    jumpWall: (ms) => void (wallOffset += ms),
  };
}

interface Node {
  stamp: Stamp;
  body:
    | { state: "whole"; digest: string; filled: boolean }
    | { state: "partial"; expectedBytes: number | null }
    | { state: "foreign" }
    | { state: "unreadable"; code: string };
}

export interface FakeDisk extends Files {
  readonly write: (path: string, sizeBytes: number, body: Node["body"], mtimeAgoMs?: number) => void;
  readonly rename: (from: string, to: string) => void;
  readonly remove: (path: string) => void;
  readonly link: (from: string, to: string) => void;
  readonly chmod: (path: string) => void;
  readonly special: (path: string, what: string) => void;
  readonly unmount: (root: string) => void;
  readonly remount: (root: string) => void;
  readonly marks: () => number;
  readonly startWatch: StartWatch;
  /** What the watcher of a root would call. */
  readonly hints: (root?: string) => WatchHints;
  /** Events get lost from now on. */
  readonly deafen: () => void;
  /** Listing this folder fails from now on. */
  readonly unlistable: (folder: string) => void;
}

export const whole = (digest = "a", filled = true): Node["body"] => ({ state: "whole", digest, filled });
export const partial = (expectedBytes: number | null = null): Node["body"] => ({ state: "partial", expectedBytes });

/** The disk's own way of writing a path; on Windows the product asks with that system's. */
const plain = (path: string): string => path.replace(/^[A-Za-z]:/, "").replaceAll("\\", "/");
/** The system's way, in which its watcher names what changed. */
const spoken = (path: string): string => resolve(path);

/** `foldsCase`: names are kept as written but compared without case, as on macOS and Windows. */
export function createFakeDisk(clock: FakeClock, root: string, foldsCase = false): FakeDisk {
  const nodes = new Map<string, Node>();
  const specials = new Map<string, string>();
  const watchers = new Map<string, Set<WatchHints>>();
  let deaf = false;
  const closedFolders = new Set<string>();
  let inode = 100n;
  let mounted = true;
  let device = 7n;
  let marks = 0;
  const nowNs = () => BigInt(Math.round(clock.wallMs() * 1000)) * 1000n + 1n;
  let folderCache: Set<string> | null = null;
  const touch = (path: string) => {
    folderCache = null;
    if (deaf) return;
    for (const hints of watchers.get(dirname(path)) ?? []) hints.touched(spoken(path));
  };
  const folders = () => (folderCache ??= new Set([root, ...[...nodes.keys(), ...specials.keys()].map((path) => dirname(path))]));
  return {
    async look(asked): Promise<Look> {
      const path = plain(asked);
      if (!mounted) return path === root ? { is: "folder", device: 1n, inode: 1n } : { is: "missing" };
      const special = specials.get(path);
      if (special !== undefined) return { is: "irregular", what: special };
      if (folders().has(path)) return { is: "folder", device, inode: BigInt(path.length) };
      const node = nodes.get(path);
      return node === undefined ? { is: "missing" } : { is: "file", stamp: node.stamp };
    },
    async list(asked): Promise<Listing> {
      const folder = plain(asked);
      if (!mounted) return { entries: [] };
      if (closedFolders.has(folder)) return { error: "EACCES" };
      const inside = [...nodes.keys()].filter((path) => dirname(path) === folder);
      const odd = [...specials.keys()].filter((path) => dirname(path) === folder);
      const below = [...folders()].filter((path) => path !== folder && dirname(path) === folder);
      return {
        entries: [
          ...inside.map((path) => ({ name: basename(path), kind: "file" as const })),
          ...odd.map((path) => ({ name: basename(path), kind: "irregular" as const })),
          ...below.map((path) => ({ name: basename(path), kind: "folder" as const })),
        ],
      };
    },
    async mark(asked): Promise<Mark> {
      const path = plain(asked);
      marks += 1;
      const node = nodes.get(path);
      if (node === undefined) return { state: "unreadable", code: "ENOENT" };
      return node.body.state === "unreadable" ? node.body : { ...node.body, stamp: node.stamp };
    },
    write(path, sizeBytes, body, mtimeAgoMs = 0) {
      const before = nodes.get(path);
      if (before === undefined) inode += 1n;
      const at = nowNs();
      nodes.set(path, {
        body,
        stamp: {
          sizeBytes,
          mtimeNs: at - BigInt(mtimeAgoMs) * 1_000_000n,
          ctimeNs: at,
          inode: before?.stamp.inode ?? inode,
          device,
          bornNs: before?.stamp.bornNs ?? at,
        },
      });
      touch(path);
    },
    rename(from, to) {
      const node = nodes.get(from);
      if (node === undefined) throw new Error(`no ${from}`);
      nodes.delete(from);
      if (foldsCase) for (const path of nodes.keys()) if (path.toLowerCase() === to.toLowerCase()) nodes.delete(path);
      nodes.set(to, { body: node.body, stamp: { ...node.stamp, ctimeNs: nowNs() } });
      touch(from);
      touch(to);
    },
    remove(path) {
      nodes.delete(path);
      specials.delete(path);
      touch(path);
    },
    link(from, to) {
      const node = nodes.get(from);
      if (node === undefined) throw new Error(`no ${from}`);
      nodes.set(to, node);
      touch(to);
    },
    chmod(path) {
      const node = nodes.get(path);
      if (node === undefined) throw new Error(`no ${path}`);
      nodes.set(path, { ...node, stamp: { ...node.stamp, ctimeNs: nowNs() } });
      touch(path);
    },
    special(path, what) {
      specials.set(path, what);
      touch(path);
    },
    unmount(at) {
      const below = [...nodes.keys()].filter((path) => path.startsWith(at));
      mounted = false;
      for (const path of below) touch(path);
    },
    remount() {
      mounted = true;
      device += 1n;
      for (const [path, node] of nodes) nodes.set(path, { ...node, stamp: { ...node.stamp, device } });
    },
    marks: () => marks,
    startWatch: (hints) => {
      let covered: readonly string[] = [];
      return {
        cover(asked) {
          const folders = asked.map(plain);
          const isNew = folders.some((path) => !covered.includes(path));
          for (const path of covered) watchers.get(path)?.delete(hints);
          for (const path of folders) watchers.set(path, (watchers.get(path) ?? new Set()).add(hints));
          covered = folders;
          return isNew;
        },
        close: async () => {
          for (const path of covered) watchers.get(path)?.delete(hints);
        },
      };
    },
    hints(watched = root) {
      const [hints] = watchers.get(watched) ?? [];
      if (hints === undefined) throw new Error(`${watched} is not watched`);
      return hints;
    },
    deafen: () => void (deaf = true),
    unlistable: (folder) => void closedFolders.add(folder),
  };
}

/** Short text of events, for comparisons: `settled a.safetensors`. */
export function told(batches: readonly (readonly ArrivalEvent[])[]): string[] {
  return batches
    .flat()
    .filter((event) => event.type !== "scanned")
    .map((event) => {
      switch (event.type) {
        case "lost":
        case "dropped":
          return event.type;
        case "refused":
          return `refused ${event.name} ${event.code}`;
        case "settled":
          return `settled ${event.name}${event.renamedFrom ? ` from ${event.renamedFrom.name}` : ""}`;
        default:
          return `${event.type} ${event.name}`;
      }
    });
}

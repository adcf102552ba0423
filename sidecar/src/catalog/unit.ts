// A unit is what becomes one entry: a file, or the shards of a checkpoint together. Here: its state, and the entry that shows it. Pure.

import type { WatchedFolder } from "../arrivals/types.ts";
import type { Stamp } from "../files/index.ts";
import { entryId } from "./names.ts";
import type { Summary } from "./summarize.ts";
import type { CatalogEntry, Identity, Problem } from "./types.ts";

/** One file as arrivals last told of it. */
export interface Member {
  readonly folder: WatchedFolder;
  readonly name: string;
  readonly path: string;
  readonly state:
    | { readonly is: "settled"; readonly stamp: Stamp }
    | { readonly is: "changing" }
    /** `look`: the reader can say more precisely what is wrong with it. */
    | { readonly is: "refused"; readonly problem: Problem; readonly stamp: Stamp | null; readonly look: boolean };
}

/** What was read from a unit's files, valid as long as they have this signature. */
export interface Content {
  readonly signature: string;
  readonly summary: Summary;
  readonly identity: Identity | null;
}

export interface Unit {
  readonly key: string;
  readonly folder: WatchedFolder;
  readonly name: string;
  readonly sharded: boolean;
  /** Table of a sharded checkpoint, when there is one: its name, the stamp it was read with, and what it lists. */
  table: { readonly name: string; readonly readAs: string | null; readonly files: readonly string[] } | null;
  /** Grows with every event about one of its files: a reading that began before is out of date. */
  version: number;
  content: Content | null;
  /** Why it cannot be used for now, though its content may be known: being written, a shard is missing, its folder is gone. */
  hindrance: Problem | null;
  members: readonly Member[];
  /** Id under which it is in the snapshot. */
  shownAs: string | null;
}

export function newUnit(key: string, folder: WatchedFolder, name: string, sharded: boolean): Unit {
  return { key, folder, name, sharded, table: null, version: 0, content: null, hindrance: null, members: [], shownAs: null };
}

/** Equal signatures: the same files, untouched. The device is left out, because it changes with a remount or a restart of the computer. */
export function signatureOf(files: readonly { readonly name: string; readonly stamp: Stamp }[]): string {
  return files.map(({ name, stamp }) => `${name}\0${stamp.sizeBytes}\0${stamp.mtimeNs}\0${stamp.ctimeNs}\0${stamp.inode}`).join("\n");
}

/** Equal but for the names and change times: the same files after a rename. */
export function sameButRenamed(a: string, b: string): boolean {
  const stripped = (signature: string) =>
    signature
      .split("\n")
      .map((line) =>
        line
          .split("\0")
          .filter((_, index) => index !== 0 && index !== 3)
          .join("\0"),
      )
      .join("\n");
  return stripped(a) === stripped(b);
}

function sizeOf(member: Member): number {
  return member.state.is === "changing" ? 0 : (member.state.stamp?.sizeBytes ?? 0);
}

/** The entry that shows a unit, or null before anything is known of it. */
export function entryOf(unit: Unit): CatalogEntry | null {
  const { content, hindrance } = unit;
  if (content === null && hindrance === null) return null;
  const kind = content?.summary.kind ?? unit.folder.kind;
  const common = {
    id: entryId(kind, unit.folder.key, unit.name),
    folder: unit.folder.key,
    name: unit.name,
    path: unit.members[0]?.path ?? "",
    sizeBytes: unit.members.reduce((sum, member) => sum + sizeOf(member), 0),
    identity: unit.members.some((member) => member.state.is !== "settled") ? null : (content?.identity ?? null),
    family: content?.summary.family ?? null,
    evidence: content?.summary.evidence ?? [],
    problem: hindrance ?? content?.summary.problem ?? null,
  };
  if (content?.summary.kind === "adapter" || (content === null && kind === "adapter")) {
    const summary = content?.summary.kind === "adapter" ? content.summary : null;
    return { ...common, kind: "adapter", kinds: summary?.kinds ?? [], tensors: summary?.tensors ?? 0 };
  }
  const summary = content?.summary.kind === "checkpoint" ? content.summary : null;
  return {
    ...common,
    kind: "checkpoint",
    variant: summary?.variant ?? null,
    structure: summary?.structure ?? null,
    keyPrefix: summary?.keyPrefix ?? "",
    config: summary?.config ?? null,
    parameters: summary?.parameters ?? 0,
    dtypes: summary?.dtypes ?? {},
    format: summary?.format ?? null,
    files: unit.members.length,
  };
}

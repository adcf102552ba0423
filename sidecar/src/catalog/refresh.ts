// Keeps units up to date with their files: decides what stands in the way, reuses what is known, reads what is not. In: units that an event concerned.
// Out: the same units with content or hindrance, handed to `show`. A unit is read by one task at a time, and read again if an event came meanwhile.

import pLimit from "p-limit";
import { fileChanging, problemOf, problemSummary } from "./read/content.ts";
import type { FileTable } from "./files.ts";
import type { Reader } from "./reader.ts";
import type { Problem } from "./types.ts";
import { missingShards } from "./read/whole-checkpoint.ts";
import { sameButRenamed, signatureOf } from "./unit.ts";
import type { Content, Member, Unit } from "./unit.ts";
import type { Stamp } from "../files/index.ts";

export interface RefresherParts {
  readonly files: FileTable;
  readonly reader: Reader;
  /** Content by unit from an earlier run. */
  readonly remembered: (unitKey: string) => Content | undefined;
  readonly isLost: (folderKey: string) => boolean;
  readonly show: (unit: Unit) => void;
}

export interface Refresher {
  /** `carried`: content of the file that has just been renamed to this unit. */
  readonly refresh: (unit: Unit, carried?: Content) => void;
  readonly idle: () => Promise<void>;
}

/** Headers in flight: enough to keep every reading thread busy, few enough that a burst of large headers stays in memory. */
const headersAtOneTime = 12;

const folderLost: Problem = {
  code: "CATALOG_FOLDER_LOST",
  message:
    "expected the folder of this file to be there; it cannot be read (unmounted, moved, no permission). Bring it back: the file is then taken up again.",
};

interface SettledFile {
  readonly name: string;
  readonly path: string;
  readonly stamp: Stamp;
}

type Refusal = Extract<Member["state"], { is: "refused" }>;
type Need =
  { readonly files: readonly SettledFile[] } | { readonly hindrance: Problem } | { readonly refused: Refusal; readonly path: string };

function needOf(unit: Unit, files: FileTable): Need {
  const settled: SettledFile[] = [];
  const missing: string[] = [];
  const members = files.membersOf(unit);
  for (const { name, member } of members) {
    if (member === null) {
      missing.push(name);
      continue;
    }
    const { path, state } = member;
    if (state.is === "refused") return { refused: state, path };
    if (state.is === "changing") return { hindrance: fileChanging };
    settled.push({ name, path, stamp: state.stamp });
  }
  if (missing.length === 0 && settled.length > 0) return { files: settled };
  const { code, message } = missingShards(members.length, missing);
  return { hindrance: { code, message } };
}

export function createRefresher(parts: RefresherParts): Refresher {
  const { files, reader, show } = parts;
  const limit = pLimit(headersAtOneTime);
  const running = new Map<Unit, Promise<void>>();

  const finish = (unit: Unit, content: Content | null, hindrance: Problem | null) => {
    if (content !== null) unit.content = content;
    unit.hindrance = hindrance;
    show(unit);
  };

  /** True when nothing has to be read. */
  const reuse = (unit: Unit, settled: readonly SettledFile[], carried: Content | undefined): boolean => {
    const signature = signatureOf(settled);
    const known = [unit.content, parts.remembered(unit.key)].find((content) => content?.signature === signature);
    const moved =
      carried !== undefined && carried.summary.problem === null && sameButRenamed(carried.signature, signature)
        ? { ...carried, signature }
        : undefined;
    const content = known ?? moved;
    if (content === undefined) return false;
    finish(unit, content, null);
    return true;
  };

  const readTable = async (unit: Unit): Promise<Problem | null> => {
    const table = files.tableOf(unit);
    if (table === null) return null;
    const { state } = table;
    if (state.is === "changing") return fileChanging;
    // The table's own reader says better than arrivals what is wrong with a table.
    if (state.stamp === null || (state.is === "refused" && !state.look)) return state.is === "refused" ? state.problem : fileChanging;
    const readAs = signatureOf([{ name: table.name, stamp: state.stamp }]);
    if (unit.table?.readAs === readAs) return null;
    try {
      const listed = await limit(() => reader.shardTable(table.path));
      for (const other of files.setTable(unit, readAs, listed)) refresh(other);
      return null;
    } catch (error) {
      return problemOf(error).problem;
    }
  };

  const readOnce = async (unit: Unit): Promise<void> => {
    const tableBefore = unit.table?.readAs;
    const tableProblem = unit.sharded ? await readTable(unit) : null;
    if (tableProblem !== null) return finish(unit, null, tableProblem);
    const { version } = unit;
    const need = needOf(unit, files);
    if ("hindrance" in need) return finish(unit, null, need.hindrance);
    if ("refused" in need) {
      const { problem, stamp, look } = need.refused;
      const precise =
        look && stamp !== null ? await limit(() => reader.content([{ path: need.path, stamp }], unit.folder.kind, null)) : null;
      if (unit.version !== version) return;
      return finish(unit, null, precise !== null && "problem" in precise && precise.lasting ? precise.problem : problem);
    }
    // What was read before its table came has not been held against it.
    const heldAgainst = unit.table === null || unit.content === null || unit.table.readAs === tableBefore;
    if (heldAgainst && reuse(unit, need.files, undefined)) return;
    const reading = await limit(() => reader.content(need.files, unit.folder.kind, files.tableOf(unit)?.path ?? null));
    if (unit.version !== version) return;
    const signature = signatureOf(need.files);
    if ("summary" in reading) finish(unit, { signature, summary: reading.summary, identity: null }, null);
    else if (reading.lasting) finish(unit, { signature, summary: problemSummary(unit.folder.kind, reading.problem), identity: null }, null);
    else finish(unit, null, reading.problem);
  };

  const run = async (unit: Unit): Promise<void> => {
    let version: number;
    do {
      version = unit.version;
      if (files.units.get(unit.key) === unit && !parts.isLost(unit.folder.key)) await readOnce(unit);
    } while (unit.version !== version);
    running.delete(unit);
  };

  function refresh(unit: Unit, carried?: Content): void {
    if (files.units.get(unit.key) !== unit) return show(unit);
    if (parts.isLost(unit.folder.key)) return finish(unit, null, folderLost);
    // Without a wait where nothing has to be read, so that a rename is one step for whoever watches.
    if (!unit.sharded && !running.has(unit)) {
      const need = needOf(unit, files);
      if ("hindrance" in need) return finish(unit, null, need.hindrance);
      if ("files" in need && reuse(unit, need.files, carried)) return;
    }
    if (!running.has(unit)) running.set(unit, run(unit));
  }

  return {
    refresh,
    async idle() {
      while (running.size > 0) await Promise.all(running.values());
    },
  };
}

// Graph exports that failed and would fail again: they are not tried anew at every prompt, but when the packages, the exporter or the file have changed.

import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { z } from "zod";
import { Failure } from "../../failure/index.ts";
import type { HostPython } from "../../host/index.ts";
import type { GraphNeed } from "./graphs.ts";

export interface FailedGraphs {
  /** The failure of the last attempt; null when there was none, or when something that it depended on has changed. A file of another structure has another name here. */
  readonly known: (structure: string, need: GraphNeed, python: HostPython) => Failure | null;
  /** Kept only where the exporter said that the same attempt would end in the same way. */
  readonly note: (structure: string, need: GraphNeed, python: HostPython, error: unknown) => void;
}

/** More structures than anybody has; the oldest go. */
const most = 200;
/** About 500 bytes a row. */
const maxBytes = 1024 * 1024;

const row = z.object({
  structure: z.string(),
  need: z.enum(["table", "models"]),
  /** Of the sidecar, whose exporter it was. */
  version: z.string(),
  python: z.string(),
  message: z.string(),
  /** Folders of packages with their times of change: pip adds and removes folders in them. */
  packages: z.record(z.string(), z.number()),
});
const saved = z.object({ formatVersion: z.literal(1), failed: z.array(row) });
type Row = z.infer<typeof row>;

const changedAt = (folder: string): number => statSync(folder, { throwIfNoEntry: false })?.mtimeMs ?? 0;
const nameOf = ({ python, paths }: HostPython): string => [python, ...paths].join("\n");

function readRows(path: string): Row[] {
  try {
    return statSync(path).size > maxBytes ? [] : saved.parse(JSON.parse(readFileSync(path, "utf8"))).failed;
  } catch {
    return []; // none yet, or damaged: one more attempt
  }
}

/** `path`: where they are kept between starts. A list that cannot be kept costs an attempt, nothing else. */
export function createFailedGraphs(path: string, version: string): FailedGraphs {
  let rows = readRows(path);
  const of = (structure: string, need: GraphNeed) => (one: Row) => one.structure === structure && one.need === need;

  function keep(next: Row[]): void {
    rows = next.slice(-most);
    try {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(`${path}.${process.pid}.tmp`, JSON.stringify({ formatVersion: 1, failed: rows }), { mode: 0o600, flush: true });
      renameSync(`${path}.${process.pid}.tmp`, path);
    } catch {
      // It is remembered until this process ends.
    }
  }

  return {
    known(structure, need, python) {
      const found = rows.find(of(structure, need));
      if (found === undefined || found.version !== version || found.python !== nameOf(python)) return null;
      if (Object.entries(found.packages).some(([folder, time]) => changedAt(folder) !== time)) return null;
      return new Failure(
        "ENGINE_GRAPH_EXPORT_FAILED",
        `${found.message} (known from an earlier attempt; it is made again when the packages of that Python change, and "refit-sidecar graph export" tries it at once)`,
        { structure },
      );
    },
    note(structure, need, python, error) {
      if (!(error instanceof Failure) || error.evidence["lasting"] !== true) return;
      const folders = error.evidence["packages"];
      const packages = Object.fromEntries(
        (Array.isArray(folders) ? folders : []).filter((one) => typeof one === "string").map((folder) => [folder, changedAt(folder)]),
      );
      const made: Row = { structure, need, version, python: nameOf(python), message: error.message, packages };
      keep([...rows.filter((one) => !of(structure, need)(one)), made]);
    },
  };
}

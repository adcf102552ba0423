// Graph exports that failed and would fail again: they are not tried anew at every prompt, but when the packages, the exporter or the file have changed.

import { statSync } from "node:fs";
import { z } from "zod";
import { Failure } from "../../failure/index.ts";
import { keepText, readKept } from "../../files/index.ts";
import type { HostPython } from "../../host/index.ts";
import type { GraphNeed } from "./graphs.ts";

export interface FailedGraphs {
  /** The failure of the last attempt; null when there was none, or when something that it depended on has changed. A file of another structure has another name here. */
  readonly known: (structure: string, need: GraphNeed, python: HostPython) => Failure | null;
  /** Kept only where the exporter said that the same attempt would end in the same way. */
  readonly note: (structure: string, need: GraphNeed, python: HostPython, error: unknown) => void;
  /** Resolves when what was noted is on disk. */
  readonly idle: () => Promise<void>;
}

const format = "refit-failed-graphs-2";

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
const saved = z.array(row);
type Row = z.infer<typeof row>;

const changedAt = (folder: string): number => statSync(folder, { throwIfNoEntry: false })?.mtimeMs ?? 0;
const nameOf = ({ python, paths }: HostPython): string => [python, ...paths].join("\n");

async function readRows(path: string): Promise<Row[]> {
  const { text } = await readKept(path, format, maxBytes);
  try {
    return text === null ? [] : saved.parse(JSON.parse(text));
  } catch {
    return []; // written by another version: one more attempt
  }
}

/** `path`: where they are kept between starts. A list that cannot be kept costs an attempt, nothing else. */
export async function openFailedGraphs(path: string, version: string): Promise<FailedGraphs> {
  let rows = await readRows(path);
  let writing = Promise.resolve();
  const of = (structure: string, need: GraphNeed) => (one: Row) => one.structure === structure && one.need === need;

  function keep(next: Row[]): void {
    rows = next.slice(-most);
    // One that cannot be kept is remembered until this process ends.
    writing = writing.then(() => keepText(path, format, JSON.stringify(rows))).catch(() => undefined);
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
    idle: () => writing,
  };
}

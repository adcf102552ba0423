// The watched folders as a list that clients and the configuration change, and what befell each.

import { stat } from "node:fs/promises";
import { homedir } from "node:os";
import { join, parse, resolve } from "node:path";
import { folderKey } from "../arrivals/index.ts";
import type { ArrivalEvent, Arrivals, FolderSpec } from "../arrivals/index.ts";
import type { Catalog } from "../catalog/index.ts";
import { Failure } from "../failure/index.ts";
import type { Options } from "../options/index.ts";
import { folderView } from "./answers/views.ts";
import type { FolderView } from "./answers/views.ts";

export interface Folders {
  readonly views: () => FolderView[];
  readonly add: (spec: FolderSpec) => Promise<FolderView>;
  readonly remove: (key: string) => Promise<void>;
  /** Replaces the folders of the configuration; those that clients added stay. */
  readonly configure: (specs: readonly FolderSpec[]) => Promise<void>;
  readonly note: (batch: readonly ArrivalEvent[]) => void;
}

/** Where adapters are put that arrive on other computers of a cluster; null: none are looked for. */
export const inboxOf = (options: Options, dataDir: string): string | null =>
  options.engines === "ray" && options["ray-adapters"] !== null ? join(dataDir, "arrived") : null;

/** Folders as arrivals wants them; the live folder is one of adapters. */
export function foldersOf(options: Options, dataDir: string): FolderSpec[] {
  const more = [options["live-folder"], inboxOf(options, dataDir)].flatMap((path) => path ?? []);
  return [
    ...[...options.loras, ...more].map((path) => ({ path, kind: "adapter" as const })),
    ...options.checkpoints.map((path) => ({ path, kind: "checkpoint" as const })),
  ];
}

/** Watching a whole home folder or disk would hash everything in it; nobody means that. */
async function checkWatchable(path: string): Promise<void> {
  const place = resolve(path);
  // Each drive of Windows has a root; a network share is a folder that somebody chose.
  const disk = parse(place).root === place && !place.startsWith("\\\\");
  const wide = disk || folderKey(place) === folderKey(homedir());
  if (wide) throw new Failure("CATALOG_FOLDER", "expected a folder of models, not a whole disk or home folder", {});
  await stat(path);
}

export function createFolders(arrivals: Arrivals, catalog: Catalog, initial: readonly FolderSpec[]): Folders {
  let configured = initial;
  let added: readonly FolderSpec[] = [];
  const problems = new Map<string, FolderView["problem"]>();

  const apply = () => arrivals.setFolders(distinct([...configured, ...added]));

  function views(): FolderView[] {
    const counts = new Map<string, number>();
    for (const entry of catalog.snapshot().entries.values())
      if (entry.folder !== null) counts.set(entry.folder, (counts.get(entry.folder) ?? 0) + 1);
    return arrivals.folders().map((folder) => folderView(folder, counts.get(folder.key) ?? 0, problems.get(folder.key) ?? null));
  }

  return {
    views,
    async add(spec) {
      await checkWatchable(spec.path);
      added = distinct([...added, spec]);
      await apply();
      const view = views().find((candidate) => candidate.id === folderKey(spec.path));
      if (view) return view;
      throw new Failure("CATALOG_FOLDER", "the folder could not be watched; is it readable?", {});
    },
    async remove(key) {
      if (!arrivals.folders().some((folder) => folder.key === key))
        throw new Failure("CATALOG_FOLDER", "expected the id of a watched folder; there is none by this id. List the folders again.", {
          folder: key,
        });
      configured = configured.filter((spec) => folderKey(spec.path) !== key);
      added = added.filter((spec) => folderKey(spec.path) !== key);
      await apply();
    },
    async configure(specs) {
      configured = specs;
      await apply();
    },
    note(batch) {
      for (const event of batch) {
        if (event.type === "lost")
          problems.set(event.folder.key, {
            code: event.code,
            message: "the folder cannot be read (unmounted, deleted, or no permission); its files are kept in the list until it is back",
          });
        if (event.type === "scanned") problems.delete(event.folder.key);
      }
    },
  };
}

function distinct(specs: readonly FolderSpec[]): FolderSpec[] {
  return [...new Map(specs.map((spec) => [folderKey(spec.path), spec])).values()];
}

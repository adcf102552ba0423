// A checkpoint is read whole or not at all: which files belong to it, and whether they hold what they should. For whoever is given a path; the catalog's
// own units follow the same rules from events.

import { lstat, readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { Failure } from "../../failure/index.ts";
import { completeShards, indexedName, isIndexName, shardName } from "../names.ts";
import { readShardTable, shardFiles } from "./shard-table.ts";
import type { ShardTable } from "./shard-table.ts";

export interface WholeCheckpoint {
  /** Paths, in shard order. */
  readonly files: readonly string[];
  /** The `.index.json` that named them, with its path; null without one. */
  readonly table: { readonly path: string; readonly places: ShardTable } | null;
}

const isThere = async (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isFile(),
    () => false,
  );

/** Shards of the checkpoint called `whole`, as they lie in the folder: the first set that any of them names. */
async function shardsBeside(folder: string, whole: string): Promise<readonly string[]> {
  const names = await readdir(folder).catch((): string[] => []);
  const any = names.sort().find((name) => shardName(name)?.whole === whole);
  return any === undefined ? [] : completeShards([any]);
}

async function requirePresent(folder: string, names: readonly string[]): Promise<readonly string[]> {
  const missing: string[] = [];
  for (const name of names) if (!(await isThere(join(folder, name)))) missing.push(name);
  if (missing.length > 0) throw missingShards(names.length, missing);
  return names.map((name) => join(folder, name));
}

export function missingShards(count: number, missing: readonly string[]): Failure {
  const shown = missing.slice(0, 3).join(", ");
  return new Failure(
    "CATALOG_SHARD_MISSING",
    `expected ${count} shards; ${missing.length} are not there (${shown}${missing.length > 3 ? ", …" : ""}). Download them into the same folder.`,
    { missing: missing.slice(0, 3) },
  );
}

/**
 * The files of the checkpoint at `path`: one file; or the table of a sharded one (`….index.json`); or the name of the whole (`model.safetensors`) where only its shards
 * lie. Throws Failure CATALOG_SHARD_ALONE for one shard of several, CATALOG_SHARD_MISSING, and what the table's reader throws.
 */
export async function wholeCheckpoint(path: string): Promise<WholeCheckpoint> {
  const folder = dirname(path);
  const name = basename(path);
  const shard = shardName(name);
  if (shard !== null && shard.count > 1) {
    const table = `${shard.whole}.index.json`;
    const how = (await isThere(join(folder, table))) ? `its table ${table}` : `${shard.whole}, the name of the whole`;
    throw new Failure(
      "CATALOG_SHARD_ALONE",
      `expected a whole checkpoint; ${name} is shard ${shard.index} of ${shard.count} and holds a part of it. Give ${how}: all ${shard.count} shards are read then.`,
      { shard: shard.index, count: shard.count },
    );
  }
  const indexed = isIndexName(name);
  if (indexed && (await isThere(path))) {
    const places = await readShardTable(path);
    return { files: await requirePresent(folder, completeShards(shardFiles(places))), table: { path, places } };
  }
  // A link that leads nowhere, or back to itself, is there too: its reader says that it cannot be read.
  const named = await lstat(path).then(
    () => true,
    () => false,
  );
  const shards = named ? [] : await shardsBeside(folder, indexed ? (indexedName(name) ?? name) : name);
  if (shards.length > 0) return { files: await requirePresent(folder, shards), table: null };
  return { files: [path], table: null };
}

/**
 * Whether shards hold what they should: no tensor twice, and every tensor of the table in the file that it names.
 * Throws Failure CATALOG_SHARD_OVERLAP or CATALOG_SHARD_INCOMPLETE.
 */
export function checkShards(
  files: readonly { readonly name: string; readonly tensors: ReadonlyMap<string, unknown> }[],
  table: ShardTable | null,
): void {
  const seen = new Set<string>();
  for (const { tensors } of files) {
    if (files.length === 1) break;
    for (const key of tensors.keys()) {
      if (seen.has(key))
        throw new Failure(
          "CATALOG_SHARD_OVERLAP",
          `expected each tensor in one shard; ${key.slice(0, 100)} is in two. Download the checkpoint again.`,
          {},
        );
      seen.add(key);
    }
  }
  const byName = new Map(files.map(({ name, tensors }) => [name, tensors]));
  const absent = [...(table ?? [])].filter(([tensor, name]) => byName.get(name)?.has(tensor) !== true);
  const [first] = absent;
  if (first === undefined) return;
  throw new Failure(
    "CATALOG_SHARD_INCOMPLETE",
    `expected every tensor of the table in the shard that it names; ${absent.length} are not there (${first[0].slice(0, 100)} in ${first[1]}). The table and the shards are of different downloads: download the checkpoint again.`,
    { absent: absent.length },
  );
}

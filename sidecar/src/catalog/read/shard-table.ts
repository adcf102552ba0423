// The table beside a sharded checkpoint: which file holds which tensor. It comes from outside, so it may name siblings only.

import { readFile, stat } from "node:fs/promises";
import { basename } from "node:path";
import { Failure } from "../../failure/index.ts";

/** About 100 bytes a tensor; 16 MiB is far beyond any. */
const maxBytes = 16 * 1024 * 1024;
const maxFiles = 1000;

/** Tensor → name of the file beside the table that holds it. */
export type ShardTable = ReadonlyMap<string, string>;

function invalid(found: string, cause?: unknown): Failure {
  return new Failure(
    "CATALOG_INDEX_INVALID",
    `expected a table with "weight_map": {tensor: file}; ${found}. Download the .index.json again.`,
    {},
    { cause },
  );
}

/** A plain name in the same folder: no way up, no way elsewhere, not even on a system with other separators. */
function isSibling(name: unknown): name is string {
  return typeof name === "string" && name.length <= 255 && /\.safetensors$/i.test(name) && !/[/\\:\0]/.test(name) && !name.startsWith(".");
}

/** Throws Failure CATALOG_INDEX_INVALID or CATALOG_SHARD_NAME_REFUSED, and what the file system throws. */
export async function readShardTable(path: string): Promise<ShardTable> {
  const stats = await stat(path);
  if (!stats.isFile()) throw invalid(`${basename(path)} is no file`);
  if (stats.size > maxBytes) throw invalid(`it has ${stats.size} bytes, more than ${maxBytes}`);
  let table: unknown;
  try {
    table = JSON.parse(await readFile(path, "utf8"));
  } catch (cause) {
    throw invalid("it is not JSON", cause);
  }
  const map = typeof table === "object" && table !== null && "weight_map" in table ? table.weight_map : null;
  if (typeof map !== "object" || map === null || Array.isArray(map)) throw invalid("it has none");
  const places = new Map<string, string>();
  for (const [tensor, name] of Object.entries(map)) {
    if (!isSibling(name)) {
      throw new Failure(
        "CATALOG_SHARD_NAME_REFUSED",
        typeof name === "string" && /^[^/\\]+\.(bin|pt|pth|ckpt)$/i.test(name)
          ? "expected shards in safetensors; it names files of torch.save, which can run code and are not read. Get the safetensors of this model, or convert it."
          : "expected shards that lie beside their table; it names a file elsewhere. Download the checkpoint again, or correct the table.",
        {},
      );
    }
    places.set(tensor, name);
  }
  const files = shardFiles(places);
  if (files.length > maxFiles) throw invalid(`it names more than ${maxFiles} files`);
  if (files.length === 0) throw invalid("it is empty");
  return places;
}

/** The files of a table, each once, in name order. */
export function shardFiles(table: ShardTable): readonly string[] {
  return [...new Set(table.values())].sort();
}

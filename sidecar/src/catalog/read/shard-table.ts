// The table beside a sharded checkpoint: which file holds which tensor. It comes from outside, so it may name siblings only.

import { readFile, stat } from "node:fs/promises";
import { Failure } from "../../failure/index.ts";

/** About 100 bytes a tensor; 16 MiB is far beyond any. */
const maxBytes = 16 * 1024 * 1024;
const maxFiles = 1000;

function invalid(found: string, cause?: unknown): Failure {
  return new Failure("CATALOG_INDEX_INVALID", `expected a table with "weight_map": {tensor: file}; ${found}. Download the .index.json again.`, {}, { cause });
}

/** A plain name in the same folder: no way up, no way elsewhere, not even on a system with other separators. */
function isSibling(name: unknown): name is string {
  return typeof name === "string" && name.length <= 255 && /\.safetensors$/i.test(name) && !/[/\\:\0]/.test(name) && !name.startsWith(".");
}

export async function readShardTable(path: string): Promise<readonly string[]> {
  const { size } = await stat(path);
  if (size > maxBytes) throw invalid(`it has ${size} bytes, more than ${maxBytes}`);
  let table: unknown;
  try {
    table = JSON.parse(await readFile(path, "utf8"));
  } catch (cause) {
    throw invalid("it is not JSON", cause);
  }
  const map = typeof table === "object" && table !== null && "weight_map" in table ? table.weight_map : null;
  if (typeof map !== "object" || map === null || Array.isArray(map)) throw invalid("it has none");
  const files = new Set<string>();
  for (const name of Object.values(map)) {
    if (!isSibling(name)) {
      throw new Failure("CATALOG_SHARD_NAME_REFUSED", "expected shards that lie beside their table; it names a file elsewhere. Download the checkpoint again, or correct the table.", {});
    }
    files.add(name);
    if (files.size > maxFiles) throw invalid(`it names more than ${maxFiles} files`);
  }
  if (files.size === 0) throw invalid("it is empty");
  return [...files].sort();
}

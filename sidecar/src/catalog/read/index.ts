// The catalog's hands: the only place of this stage that reads and writes files. In: paths of settled files. Out: headers, hashes, the saved catalog.
// Checks whatever it reads; never reads tensor data but for hashing, never keeps a file open.

import { native } from "@refit-sidecar/native";
import type { Reader } from "../reader.ts";
import { sampledHash } from "./sampled-hash.ts";
import { readShardTable } from "./shard-table.ts";
import { readStamp } from "./stamp.ts";
import { loadText, saveText } from "./store.ts";

/** `storePath`: where the catalog is kept between runs; null keeps nothing. */
export function createReader(storePath: string | null): Reader {
  return {
    header: (path) => native.readHeader(path),
    shardTable: readShardTable,
    stamp: readStamp,
    fullHash: (path, signal) => native.hashFile(path, signal),
    sampledHash,
    load: async () => (storePath === null ? { text: null, reason: null } : loadText(storePath)),
    save: async (text) => {
      if (storePath !== null) await saveText(storePath, text);
    },
  };
}

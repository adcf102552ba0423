// The catalog's hands: the only place of this stage that reads and writes files. In: paths of settled files. Out: headers, hashes, the saved catalog.
// Checks whatever it reads; never reads tensor data but for hashing and the descriptions of quantised layers, never keeps a file open.

import { availableParallelism } from "node:os";
import { native } from "@refit-sidecar/native";
import type { Reader } from "../reader.ts";
import { readContent } from "./content.ts";
import { createHeaderService } from "./header-service.ts";
import { sampledHash } from "./sampled-hash.ts";
import { readShardTable, shardFiles } from "./shard-table.ts";
import { readStamp } from "../../files/index.ts";
import { readNotes } from "./stored-file.ts";
import { loadText, saveText } from "./store.ts";

/** More threads would wait for the disk. */
const maxThreads = 2;

/** The compiled worker beside this file; there is none when the sources run as they are. */
function workerEntry(): URL | null {
  return import.meta.url.endsWith(".js") ? new URL("./header-worker.js", import.meta.url) : null;
}

/** `storePath`: where the catalog is kept between runs; null keeps nothing. */
export function createReader(storePath: string | null): Reader {
  const headers = createHeaderService({
    readHere: (files, placed, table) => readContent(files, placed, table, native.readHeader),
    entry: workerEntry(),
    threads: Math.min(maxThreads, availableParallelism()),
  });
  return {
    header: (path) => native.readHeader(path),
    notes: readNotes,
    content: headers.read,
    shardTable: async (path) => shardFiles(await readShardTable(path)),
    stamp: readStamp,
    fullHash: (path, signal) => native.hashFile(path, signal),
    sampledHash,
    load: async () => (storePath === null ? { text: null, reason: null } : loadText(storePath)),
    save: async (text) => {
      if (storePath !== null) await saveText(storePath, text);
    },
    close: headers.close,
  };
}

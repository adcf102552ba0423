// What the catalog reads from disk, as a port: read/ has the real one, tests have others.

import type { Header } from "@refit-sidecar/native";
import type { FileKind } from "../arrivals/types.ts";
import type { Stamp } from "../files/index.ts";
import type { StorageNotes } from "../storage/types.ts";
import type { Summary } from "./summarize.ts";
import type { Problem } from "./types.ts";

export interface ContentFile {
  readonly path: string;
  readonly stamp: Stamp;
}

/** `lasting`: a property of the content, worth remembering; otherwise of the moment. */
export type Reading = { readonly summary: Summary } | { readonly problem: Problem; readonly lasting: boolean };

export interface Reader {
  /** Throws SafetensorsError. */
  readonly header: (path: string) => Promise<Header>;
  /** What the header of a quantised checkpoint leaves open. Throws SafetensorsError. */
  readonly notes: (path: string, header: Header) => Promise<StorageNotes>;
  /** What the headers of a unit's files say, and whether they hold what the table at the path `table` promises. Never rejects: a bad file is a problem. */
  readonly content: (files: readonly ContentFile[], placed: FileKind, table: string | null) => Promise<Reading>;
  /** File names in a sharded checkpoint's table (`weight_map`). Throws Failure CATALOG_INDEX_INVALID or CATALOG_SHARD_NAME_REFUSED. */
  readonly shardTable: (path: string) => Promise<readonly string[]>;
  /** null when there is no regular file. */
  readonly stamp: (path: string) => Promise<Stamp | null>;
  readonly fullHash: (path: string, signal?: AbortSignal) => Promise<string>;
  /** Over length, header and samples of the data; milliseconds however large the file is. */
  readonly sampledHash: (path: string) => Promise<string>;
  /** Text of the saved catalog; null when there is none, or it was damaged (`reason` says how). */
  readonly load: () => Promise<{ readonly text: string | null; readonly reason: string | null }>;
  /** Atomic: the old text or the new one survives a power cut. Throws what the disk says. */
  readonly save: (text: string) => Promise<void>;
  readonly close: () => Promise<void>;
}

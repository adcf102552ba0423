// What the catalog offers, and what it is told. Types only.

import type { ArrivalEvent } from "../arrivals/types.ts";
import type { Reader } from "./reader.ts";
import type { AdapterEntry, CatalogChange, CatalogEntry, CatalogSnapshot, CheckpointSource, Identity } from "./types.ts";

export interface CatalogOptions {
  /** File that the catalog is kept in between runs; null keeps nothing. */
  readonly storePath: string | null;
  /** Told once each time the saved catalog could not be read or written; the catalog goes on without it. */
  readonly onStoreTrouble?: (text: string) => void;
  readonly reader?: Reader;
  readonly nowMs?: () => number;
}

/** A file that an entry stands for, with what it must still be when it is opened. */
export interface AdapterFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly mtimeNs: string;
  readonly inode: string;
}

/** An adapter that a client pushed; it lies in the data folder under its own hash. */
export interface PushedFile {
  readonly path: string;
  readonly sha256: string;
  readonly name: string;
}

export interface Catalog {
  /** Reads the saved catalog. Before `accept`. */
  readonly open: () => Promise<void>;
  readonly accept: (batch: readonly ArrivalEvent[]) => void;
  readonly snapshot: () => CatalogSnapshot;
  /** Returns the function that ends the subscription. */
  readonly onChange: (listener: (change: CatalogChange) => void) => () => void;
  /** Resolves when everything accepted so far has been read and published. */
  readonly idle: () => Promise<void>;
  /** Throws Failure CATALOG_ENTRY_UNKNOWN. */
  readonly entry: (id: string) => CatalogEntry;
  /** As `entry`, null when there is none: what is known now, which the snapshot may show some milliseconds later. */
  readonly present: (id: string) => CatalogEntry | null;
  /** By id, or by name when only one entry of the kind has it. Throws Failure CATALOG_ENTRY_UNKNOWN or CATALOG_NAME_AMBIGUOUS. */
  readonly find: (kind: CatalogEntry["kind"], idOrName: string) => CatalogEntry;
  /** Adapters: the full hash, awaited. Checkpoints: the sampled hash, with the full one following in the background, or awaited with `proof`.
   *  Throws Failure CATALOG_ENTRY_UNKNOWN, CATALOG_ENTRY_UNUSABLE, CATALOG_FILE_CHANGED; SafetensorsError when the disk fails. */
  readonly identity: (id: string, proof?: "full") => Promise<Identity>;
  /** What is known now becomes the snapshot. */
  readonly publish: () => void;
  readonly adapterFile: (id: string) => AdapterFile;
  /** Reads the headers again. Throws Failure CATALOG_ENTRY_UNKNOWN, CATALOG_ENTRY_UNUSABLE, CATALOG_FILE_CHANGED, CATALOG_MIXED_PIECES. */
  readonly checkpointSource: (id: string) => Promise<CheckpointSource>;
  readonly adopt: (file: PushedFile) => Promise<AdapterEntry>;
  readonly forget: (id: string) => void;
  /** Ends background work and saves. */
  readonly close: () => Promise<void>;
}

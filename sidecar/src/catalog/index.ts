// What lies in the watched folders, known from headers alone. In: batches of arrival events. Out: immutable snapshots of entries with id, kind, family,
// structure and content identity; parameter tables and files of single entries on request.
// Never reads tensor data but for hashing, never keeps a table of tensors for every file, never calls a file's content known after its size, times or
// inode have changed, and never lets a bad file do more than become an entry with a problem.

export { createCatalog } from "./catalog.ts";
export { catalogFormat } from "./read/store.ts";
export type { AdapterFile, Catalog, CatalogOptions, PushedFile } from "./door.ts";
export { detectModel } from "./detect/index.ts";
export type { DetectedModel, UnsupportedModel } from "./detect/index.ts";
export { entryId } from "./names.ts";
export { checkShards, wholeCheckpoint } from "./read/whole-checkpoint.ts";
export type { WholeCheckpoint } from "./read/whole-checkpoint.ts";
export { readCheckpointSource, readNotes } from "./read/stored-file.ts";
export { buildCheckpointSource } from "./source.ts";
export { structureOf } from "./structure.ts";
export { summarize } from "./summarize.ts";
export { requireWhole } from "./whole-structure.ts";
export type { AdapterSummary, CheckpointSummary, Summary, Tensors } from "./summarize.ts";
export { contentKey } from "./types.ts";
export type {
  AdapterEntry,
  CatalogChange,
  CatalogEntry,
  CatalogSnapshot,
  CheckpointEntry,
  CheckpointSource,
  Family,
  Identity,
  ModelConfig,
  ParameterPiece,
  ParameterSource,
  Problem,
} from "./types.ts";

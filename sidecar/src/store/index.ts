// The engine store: compiled, weightless engines on disk, by structure and never by weights. In: files that an engine host made. Out: checked entries.
// Everything is written temp + fsync + rename, listed in a manifest with checksums, and checked before it is handed out.
// Never serves a damaged entry, never removes one in use, never loads a file that its own manifest or a trusted bundle does not list.

export { exportBundle, importBundle, keyFingerprint, readKey } from "./bundle.ts";
export { entryName, sameFinger, storeFormatVersion } from "./key.ts";
export type { EngineFinger, EngineKey } from "./key.ts";
export { readManifest } from "./manifest.ts";
export type { Manifest, StoredFile } from "./manifest.ts";
export { openStore } from "./store.ts";
export type { EntryInfo, Lookup, Staging, Store, StoreOptions } from "./store.ts";

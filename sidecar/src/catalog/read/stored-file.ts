import { basename } from "node:path";
import { native, SafetensorsError } from "@refit-sidecar/native";
import type { Header } from "@refit-sidecar/native";
import { isSameFile, needsNotes, noNotes, readStorageNotes, type CheckpointSource, type StorageNotes } from "../../storage/index.ts";
import { buildCheckpointSource } from "../source.ts";
import type { StoredFile } from "../source.ts";
import type { Family } from "../types.ts";

/** What the header of a quantised checkpoint leaves open. Throws SafetensorsError; FILE_CHANGED when the file is no longer the one of `header`. */
export async function readNotes(path: string, header: Header): Promise<StorageNotes> {
  if (!needsNotes(header.entries, header.metadata)) return noNotes;
  const file = await native.openTensorFile(path);
  try {
    if (!isSameFile(file.header, header))
      throw new SafetensorsError(
        "FILE_CHANGED",
        basename(path),
        "the file changed since its header was read; read it again when it has settled",
      );
    return await readStorageNotes(file);
  } finally {
    await file.close();
  }
}

/** The parameter table of a checkpoint's files, read from disk; `family` as in `canonicalNames`. Throws SafetensorsError and what `buildCheckpointSource` throws. */
export async function readCheckpointSource(paths: readonly string[], family: Family | null = null): Promise<CheckpointSource> {
  const files: StoredFile[] = [];
  for (const path of paths) {
    const header = await native.readHeader(path);
    files.push({ path, header, notes: await readNotes(path, header) });
  }
  return buildCheckpointSource(files, family);
}

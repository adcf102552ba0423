import type { StackFile } from "@refit-sidecar/protocol";
import type { CheckpointSource } from "../../src/catalog/types.ts";
import { CheckpointFiles } from "../../src/storage/index.ts";
import { DeltaFile } from "./delta-file.ts";

/** Checkpoint and deltas of one refit. Opened for its duration only: a descriptor kept open would stop a user on Windows from replacing the file. */
export interface Sources {
  readonly checkpoint: CheckpointFiles;
  /** In stack order. */
  readonly deltas: readonly DeltaFile[];
}

/** Opens everything, runs `work`, and checks at the end that no file changed meanwhile: then every value that `work` saw came from the files that were catalogued. */
export async function withSources<T>(
  checkpoint: CheckpointSource,
  stack: readonly StackFile[],
  work: (sources: Sources) => Promise<T>,
): Promise<T> {
  const deltas: DeltaFile[] = [];
  const files = await CheckpointFiles.open(checkpoint);
  try {
    for (const entry of stack) deltas.push(await DeltaFile.open(entry));
    const result = await work({ checkpoint: files, deltas });
    await files.checkUnchanged();
    for (const delta of deltas) await delta.checkUnchanged();
    return result;
  } finally {
    await files.close();
    for (const delta of deltas) await delta.close();
  }
}

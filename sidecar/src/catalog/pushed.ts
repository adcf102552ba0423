// Adapters that clients pushed: entries without a folder. Their files lie in the data folder under their own hash and do not change.

import type { Stamp } from "../files/index.ts";
import { Failure } from "../failure/index.ts";
import type { AdapterFile, PushedFile } from "./door.ts";
import { entryId } from "./names.ts";
import type { Reader } from "./reader.ts";
import type { AdapterEntry } from "./types.ts";

export interface Pushed {
  /** The same content again gives the same entry. Throws Failure CATALOG_FILE_CHANGED, CATALOG_ENTRY_UNUSABLE. */
  readonly adopt: (file: PushedFile) => Promise<AdapterEntry>;
  /** null for an id that is no pushed adapter's. */
  readonly file: (id: string) => AdapterFile | null;
  readonly forget: (id: string) => boolean;
}

export function adapterFile(path: string, stamp: Stamp): AdapterFile {
  return { path, sizeBytes: stamp.sizeBytes, mtimeNs: String(stamp.mtimeNs), inode: String(stamp.inode) };
}

export function createPushed(reader: Reader): Pushed {
  const known = new Map<string, { readonly entry: AdapterEntry; readonly file: AdapterFile }>();
  return {
    async adopt({ path, sha256, name }) {
      const id = entryId("adapter", null, sha256);
      const before = known.get(id);
      if (before !== undefined) return before.entry;
      const stamp = await reader.stamp(path);
      if (stamp === null)
        throw new Failure("CATALOG_FILE_CHANGED", "expected the pushed adapter's file; it is not there any more. Push it again.", {});
      const reading = await reader.content([{ path, stamp }], "adapter", null);
      const problem = "problem" in reading ? reading.problem : reading.summary.problem;
      if (problem !== null || !("summary" in reading) || reading.summary.kind !== "adapter") {
        throw new Failure(
          "CATALOG_ENTRY_UNUSABLE",
          `the pushed tensors cannot be used: ${problem?.message ?? "they are a checkpoint, not an adapter"}`,
          {},
        );
      }
      const { kind, family, kinds, tensors, evidence } = reading.summary;
      const entry: AdapterEntry = {
        kind,
        id,
        folder: null,
        name,
        path,
        sizeBytes: stamp.sizeBytes,
        identity: { sha256, proof: "full" },
        family,
        kinds,
        tensors,
        evidence,
        problem: null,
      };
      known.set(id, { entry, file: adapterFile(path, stamp) });
      return entry;
    },
    file: (id) => known.get(id)?.file ?? null,
    forget: (id) => known.delete(id),
  };
}

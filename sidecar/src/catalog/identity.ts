// Hashes of content, on demand. In: a unit whose files are at rest. Out: an identity that holds for exactly those files, or a Failure.

import pLimit from "p-limit";
import { Failure } from "../failure/index.ts";
import { sameStamp } from "../files/index.ts";
import type { Stamp } from "../files/index.ts";
import type { Reader } from "./reader.ts";
import { combinedHash } from "./names.ts";
import type { Identity } from "./types.ts";

export interface HashedFile {
  readonly path: string;
  readonly stamp: Stamp;
}

export interface Hasher {
  /** SHA-256 of the file; of several files, over their hashes in order. Throws Failure CATALOG_FILE_CHANGED when a file moved meanwhile. */
  readonly full: (files: readonly HashedFile[], sampled: string | undefined, signal?: AbortSignal) => Promise<Identity>;
  readonly sampled: (files: readonly HashedFile[]) => Promise<Identity>;
}

/** Large files at one time: more would only make a drive seek. */
const atOneTime = 2;

/** A file up to this size is hashed in a second or two, and never waits behind checkpoints: a run waits for an adapter. */
const smallBytes = 2 * 1024 ** 3;

export function createHasher(reader: Reader): Hasher {
  const [large, small] = [pLimit(atOneTime), pLimit(atOneTime)];
  /** The stamp is compared before and after: a hash of a file in motion belongs to no content. */
  const guarded = async (files: readonly HashedFile[], hash: (path: string) => Promise<string>): Promise<string> => {
    const hashes: string[] = [];
    for (const { path, stamp } of files) {
      const check = async () => {
        const now = await reader.stamp(path);
        if (now !== null && sameStamp(stamp, now)) return;
        throw new Failure(
          "CATALOG_FILE_CHANGED",
          "expected the file as it was catalogued; it was replaced or written to since. Ask again when the catalog has caught up.",
          {},
        );
      };
      await check();
      hashes.push(await hash(path));
      await check();
    }
    return combinedHash(hashes);
  };
  return {
    full: (files, sampled, signal) =>
      (files.reduce((sum, { stamp }) => sum + stamp.sizeBytes, 0) > smallBytes ? large : small)(async () => {
        signal?.throwIfAborted();
        const sha256 = await guarded(files, (path) => reader.fullHash(path, signal));
        return { sha256, proof: "full", ...(sampled === undefined ? {} : { sampled }) };
      }),
    // Not queued behind full hashes: it takes milliseconds, and someone waits for it.
    async sampled(files) {
      const sampled = await guarded(files, reader.sampledHash);
      return { sha256: sampled, proof: "sampled", sampled };
    },
  };
}

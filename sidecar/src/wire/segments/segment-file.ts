// One segment: a sparse file that both ends open, copied in and out with positioned reads and writes. A file cut short is an error, never a bus error.

import { randomBytes } from "node:crypto";
import { readSync, writeSync } from "node:fs";
import { open, rm, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { randomSecret } from "../access/index.ts";
import { Failure } from "../../failure/index.ts";

/** Copies up to this size run on the event loop (about 0.2 ms from memory); larger ones on the thread pool. */
const syncBytes = 2 ** 20;

/** Both sides hash the first bytes of both files to prove that they see the same ones. */
const nonceBytes = 32;

export interface SegmentFile {
  readonly path: string;
  readonly bytes: number;
  readonly nonce: Uint8Array;
  /** Fills `into` from `offset`. Throws WIRE_SEGMENT_SHORT when the file ends before. */
  readonly read: (into: Uint8Array, offset: number) => Promise<void>;
  /** Throws WIRE_SEGMENT_FAILED, for example when memory is full. */
  readonly write: (data: Uint8Array, offset: number) => Promise<void>;
  readonly remove: () => Promise<void>;
}

function short(): Failure {
  return new Failure("WIRE_SEGMENT_SHORT", "expected the tensor's bytes in the request segment; the file ends before them");
}

async function fill(file: FileHandle, into: Uint8Array, offset: number): Promise<void> {
  let done = 0;
  while (done < into.byteLength) {
    const left = into.byteLength - done;
    const got =
      left <= syncBytes ? readSync(file.fd, into, done, left, offset + done) : (await file.read(into, done, left, offset + done)).bytesRead;
    if (got === 0) throw short();
    done += got;
  }
}

async function store(file: FileHandle, data: Uint8Array, offset: number): Promise<void> {
  let done = 0;
  while (done < data.byteLength) {
    const left = data.byteLength - done;
    done +=
      left <= syncBytes
        ? writeSync(file.fd, data, done, left, offset + done)
        : (await file.write(data, done, left, offset + done)).bytesWritten;
  }
}

export async function createSegment(folder: string, bytes: number): Promise<SegmentFile> {
  const path = join(folder, randomSecret());
  const file = await open(path, "wx+", 0o600);
  const nonce = randomBytes(nonceBytes);
  await file.truncate(bytes);
  await store(file, nonce, 0);
  return {
    path,
    bytes,
    nonce,
    async read(into, offset) {
      try {
        await fill(file, into, offset);
      } catch (error) {
        throw error instanceof Failure
          ? error
          : new Failure("WIRE_SEGMENT_FAILED", "the request segment could not be read", {}, { cause: error });
      }
    },
    async write(data, offset) {
      await store(file, data, offset).catch((error: unknown) => {
        throw new Failure(
          "WIRE_SEGMENT_FAILED",
          "the reply segment could not be written; the memory file system may be full",
          {},
          { cause: error },
        );
      });
    },
    async remove() {
      await file.close().catch(() => undefined);
      await rm(path, { force: true }).catch(() => undefined);
    },
  };
}

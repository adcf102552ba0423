// A look into a file: does its header's length equal its own, and does its data look filled? Edge: reads the file, holds no handle afterwards.

import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { classifyName, controlFileOf } from "./candidates.ts";
import { errorCode } from "./error-code.ts";
import { createLengthReader, readPrefix } from "./header-length.ts";
import type { Mark } from "./world.ts";
import { sameStamp, stampOf } from "../files/index.ts";
import type { Stamp } from "../files/index.ts";

const pieceBytes = 1 << 20;
const pageBytes = 4096;
/** Pages of the data that are looked at, the last one among them: enough to catch a preallocated file, cheap on a disk. */
const sampledPages = 8;
/** A table of a sharded checkpoint has about 100 bytes a tensor; 16 MiB is far beyond any. */
const maxIndexBytes = 16 << 20;

async function readAt(file: FileHandle, buffer: Uint8Array, position: number): Promise<Uint8Array> {
  let filled = 0;
  while (filled < buffer.length) {
    const { bytesRead } = await file.read(buffer, filled, buffer.length - filled, position + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return buffer.subarray(0, filled);
}

async function isFilled(file: FileHandle, begin: number, end: number): Promise<boolean> {
  const page = new Uint8Array(pageBytes);
  const last = Math.max(begin, end - pageBytes);
  for (let index = 1; index <= sampledPages; index += 1) {
    const position = Math.floor(begin + ((last - begin) * index) / sampledPages);
    const bytes = await readAt(file, page.subarray(0, Math.min(pageBytes, end - position)), position);
    if (bytes.length > 0 && bytes.every((byte) => byte === 0)) return false;
  }
  return true;
}

async function markTensors(file: FileHandle, stamp: Stamp): Promise<Mark> {
  const prefix = readPrefix(await readAt(file, new Uint8Array(8), 0));
  if (prefix.state === "foreign") return { state: "foreign", stamp };
  if (prefix.state === "pending" || prefix.headerBytes > stamp.sizeBytes - 8) return { state: "partial", stamp, expectedBytes: null };
  const hash = createHash("sha256");
  const reader = createLengthReader();
  const piece = new Uint8Array(Math.min(pieceBytes, prefix.headerBytes));
  for (let done = 0; done < prefix.headerBytes;) {
    const bytes = await readAt(file, piece.subarray(0, Math.min(piece.length, prefix.headerBytes - done)), 8 + done);
    if (bytes.length === 0) return { state: "partial", stamp, expectedBytes: null };
    hash.update(bytes);
    reader.push(bytes);
    done += bytes.length;
  }
  if (!reader.complete()) return { state: "partial", stamp, expectedBytes: null };
  const dataOffset = 8 + prefix.headerBytes;
  const expectedBytes = dataOffset + reader.dataBytes();
  if (expectedBytes !== stamp.sizeBytes) return { state: "partial", stamp, expectedBytes };
  const filled = expectedBytes === dataOffset || (await isFilled(file, dataOffset, expectedBytes));
  return { state: "whole", stamp, digest: hash.digest("hex"), filled };
}

async function markIndex(file: FileHandle, stamp: Stamp): Promise<Mark> {
  if (stamp.sizeBytes > maxIndexBytes) return { state: "foreign", stamp };
  const bytes = await readAt(file, new Uint8Array(stamp.sizeBytes), 0);
  try {
    JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    return { state: "partial", stamp, expectedBytes: null };
  }
  return { state: "whole", stamp, digest: createHash("sha256").update(bytes).digest("hex"), filled: true };
}

/** `exists` tells whether a path is there; it is asked about the download helper's control file only. */
export async function markFile(path: string, exists: (path: string) => Promise<boolean>): Promise<Mark> {
  let file: FileHandle;
  try {
    // Without O_NONBLOCK, opening a pipe that took the file's place would wait for ever. Windows has neither the flag nor the problem.
    file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (error) {
    return { state: "unreadable", code: errorCode(error) };
  }
  try {
    const stat = await file.stat({ bigint: true });
    if (!stat.isFile()) return { state: "unreadable", code: "not a regular file" };
    const stamp = stampOf(stat);
    if (await exists(controlFileOf(path))) return { state: "partial", stamp, expectedBytes: null };
    const mark =
      classifyName(path.slice(Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1)) === "index"
        ? await markIndex(file, stamp)
        : await markTensors(file, stamp);
    const after = stampOf(await file.stat({ bigint: true }));
    // Written while it was read: what was seen is a mix of two states.
    return sameStamp(stamp, after) ? mark : { state: "partial", stamp: after, expectedBytes: null };
  } catch (error) {
    return { state: "unreadable", code: errorCode(error) };
  } finally {
    await file.close().catch(() => undefined);
  }
}

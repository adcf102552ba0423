import { closeSync, fstatSync, openSync, readSync, statSync, constants } from "node:fs";
import { basename } from "node:path";

import type { Header } from "../api.ts";
import { SafetensorsError } from "../errors.ts";
import { identifyOther } from "./identify.ts";
import { nonBlocking, notRegular, sameStamp, toStamp, unreadable } from "./open-regular.ts";
import { checkLength, firstReadBytes, type SyncHeaderParser } from "./read-header.ts";

/** Buffers that stay with the thread, so that a scan does not leave one a file to the garbage collector. What a parser keeps of a header is its own copy. */
const startBuffer = Buffer.allocUnsafeSlow(firstReadBytes);
const keptBytes = 4 * 1024 * 1024;
let kept = Buffer.alloc(0);

function room(bytes: number): Buffer {
  if (bytes > keptBytes) return Buffer.allocUnsafeSlow(bytes);
  if (kept.byteLength < bytes) kept = Buffer.allocUnsafeSlow(Math.min(keptBytes, bytes * 2));
  return kept.subarray(0, bytes);
}

/**
 * As `readHeader`, without giving up the thread: a worker that reads thousands of headers spends more on promises than on reading. Same checks, same codes.
 */
export function readHeaderSync(path: string, parse: SyncHeaderParser): Header {
  const file = basename(path);
  const attempt = <T>(call: () => T): T => {
    try {
      return call();
    } catch (cause) {
      return unreadable(file, cause);
    }
  };
  // As in open-regular.ts: a pipe or device is refused before the open, and after it when it was put there in between.
  const before = attempt(() => statSync(path));
  if (!before.isFile()) notRegular(file, before);
  const descriptor = attempt(() => openSync(path, constants.O_RDONLY | nonBlocking));
  try {
    const stats = attempt(() => fstatSync(descriptor, { bigint: true }));
    if (!stats.isFile()) notRegular(file, stats);
    const stamp = toStamp(stats);
    const fill = (target: Uint8Array, position: number): void => {
      for (let done = 0; done < target.byteLength;) {
        const bytesRead = attempt(() => readSync(descriptor, target, done, target.byteLength - done, position + done));
        if (bytesRead === 0)
          throw new SafetensorsError(
            "TRUNCATED",
            file,
            `the file ends at byte ${position + done}, expected a header up to ${position + target.byteLength}; it was cut short while being read`,
          );
        done += bytesRead;
      }
    };
    const start = startBuffer.subarray(0, Math.min(firstReadBytes, stamp.sizeBytes));
    fill(start, 0);
    try {
      const headerBytes = checkLength(start, stamp.sizeBytes, file);
      let header: Uint8Array = start.subarray(8, 8 + headerBytes);
      if (header.byteLength < headerBytes) {
        const whole = room(headerBytes);
        whole.set(header);
        fill(whole.subarray(header.byteLength), start.byteLength);
        header = whole;
      }
      const dataOffset = 8 + headerBytes;
      const parsed = parse(header, stamp.sizeBytes - dataOffset, file);
      if (!sameStamp(stamp, toStamp(attempt(() => fstatSync(descriptor, { bigint: true }))))) {
        throw new SafetensorsError("FILE_CHANGED", file, "the file changed while its header was read; read it again when it has settled");
      }
      return { ...parsed, dataOffset, stamp };
    } catch (error) {
      if (!(error instanceof SafetensorsError) || ["FILE_CHANGED", "TRUNCATED", "UNREADABLE"].includes(error.code)) throw error;
      throw identifyOther(start, file) ?? error;
    }
  } finally {
    closeSync(descriptor);
  }
}

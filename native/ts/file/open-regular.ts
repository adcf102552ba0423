import { constants } from "node:fs";
import { open, stat, type FileHandle } from "node:fs/promises";
import { basename } from "node:path";

import type { FileStamp } from "../api.ts";
import { SafetensorsError } from "../errors.ts";

// Absent on Windows, which has no path that blocks an open for reading.
export const nonBlocking = constants.O_NONBLOCK ?? 0;

/**
 * Opens a regular file for reading; links are followed. A fifo or device is refused by `stat` before the open, and by `fstat` after it when it was
 * put there in between; O_NONBLOCK keeps that open from hanging.
 */
export async function openRegular(path: string): Promise<{ handle: FileHandle; stamp: FileStamp }> {
  const file = basename(path);
  const before = await stat(path).catch((cause: unknown) => unreadable(file, cause));
  if (!before.isFile()) notRegular(file);
  const handle = await open(path, constants.O_RDONLY | nonBlocking).catch((cause: unknown) => unreadable(file, cause));
  try {
    const stats = await handle.stat({ bigint: true });
    if (!stats.isFile()) notRegular(file);
    return { handle, stamp: toStamp(stats) };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

export function toStamp(stats: { size: bigint; mtimeNs: bigint; ino: bigint }): FileStamp {
  return { sizeBytes: Number(stats.size), mtimeNs: stats.mtimeNs, inode: stats.ino };
}

export function sameStamp(a: FileStamp, b: FileStamp): boolean {
  return a.sizeBytes === b.sizeBytes && a.mtimeNs === b.mtimeNs && a.inode === b.inode;
}

export function unreadable(file: string, cause: unknown): never {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown error";
  throw new SafetensorsError("UNREADABLE", file, `could not be read (${code}); check that it exists and that its permissions allow reading`, { cause });
}

export function notRegular(file: string): never {
  throw new SafetensorsError("NOT_A_REGULAR_FILE", file, "expected a regular file, found a folder, pipe, socket or device");
}

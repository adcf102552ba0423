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
  if (!before.isFile()) notRegular(file, before);
  const handle = await open(path, constants.O_RDONLY | nonBlocking).catch((cause: unknown) => unreadable(file, cause));
  try {
    const stats = await handle.stat({ bigint: true });
    if (!stats.isFile()) notRegular(file, stats);
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
  throw new SafetensorsError(
    "UNREADABLE",
    file,
    unreadableText(cause instanceof Error && "code" in cause ? String(cause.code) : "unknown error"),
    { cause },
  );
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file (ENOENT); check the path",
  ENOTDIR: "a part of the path is a file, not a folder (ENOTDIR); check the path",
  ELOOP: "its links lead back to themselves (ELOOP); put the file itself there",
  EACCES: "the file's rights do not allow reading (EACCES); change them, or copy the file",
  EPERM: "the system does not allow reading (EPERM); check the file's rights, and whether a program holds it",
  EBUSY: "another program holds the file (EBUSY); close it and try again",
  EIO: "the disk reports an error (EIO); check it, or download the file again",
};

export function unreadableText(code: string): string {
  return reasons[code] ?? `could not be read (${code}); check that it exists and that its permissions allow reading`;
}

export function notRegular(file: string, stats: { isDirectory(): boolean }): never {
  const what = stats.isDirectory()
    ? "a folder; name the file in it (of a diffusers folder: its .safetensors, or the .index.json beside the shards)"
    : "a pipe, socket or device; give the file itself";
  throw new SafetensorsError("NOT_A_REGULAR_FILE", file, `expected a regular file, found ${what}`);
}

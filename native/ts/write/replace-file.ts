import { randomBytes } from "node:crypto";
import { lstat, open, rename, rm, type FileHandle } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

/**
 * Writes a file so that a reader sees the old one or the new one, whatever is killed when: temp file in the same folder, fsync, rename, fsync of the
 * folder. `durable: false` leaves out both fsyncs: still whole after a kill, but a power cut may leave a file of the right name with wrong bytes, so it is
 * for caches that are verified when read. The temp name ends in `.tmp`, which no watcher of tensor files takes. On failure the temp file is removed. `mode`: rights of the new file, less the process's mask.
 */
export async function replaceFile(
  path: string,
  write: (handle: FileHandle) => Promise<void>,
  { durable = true, mode = 0o666 }: { readonly durable?: boolean; readonly mode?: number } = {},
): Promise<void> {
  const folder = dirname(path);
  await requireReplaceable(path);
  const temp = join(folder, `.${basename(path).slice(0, 100)}.${randomBytes(6).toString("hex")}.tmp`);
  const handle = await open(temp, "wx", mode);
  try {
    try {
      await write(handle);
      if (durable) await handle.sync();
    } finally {
      await handle.close();
    }
    await renameOver(temp, path);
  } catch (error) {
    await rm(temp, { force: true });
    throw error;
  }
  if (durable) await syncFolder(folder);
}

/** A rename takes away whatever is there: a device (`/dev/null`), a pipe or a socket is no file that a new one could stand for. */
async function requireReplaceable(path: string): Promise<void> {
  const there = await lstat(path).catch(() => null);
  if (there === null || there.isFile() || there.isSymbolicLink()) return;
  const kind = there.isDirectory() ? "a folder" : "a device, a pipe or a socket";
  throw Object.assign(new Error(`expected a file to replace, or none: ${basename(path)} is ${kind}`), { code: "EEXIST" });
}

/** Windows refuses to rename over a file that someone has open; virus scanners hold new files for a moment. */
async function renameOver(from: string, to: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await rename(from, to);
      return;
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : null;
      if (process.platform !== "win32" || attempt >= 10 || (code !== "EPERM" && code !== "EACCES" && code !== "EBUSY")) throw error;
      await delay(20 * (attempt + 1));
    }
  }
}

/** Makes the rename itself durable. Windows has no such call, and journals the rename. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

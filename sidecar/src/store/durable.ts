// Writing so that a power cut leaves the old state or the new one: file contents reach the disk before the name does, the name before we say so.

import { open, rm } from "node:fs/promises";

export async function syncFile(path: string, flags = "r+"): Promise<void> {
  const handle = await open(path, flags);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Windows has no handle for a folder to sync; there NTFS journals the rename itself. */
export async function syncFolder(path: string): Promise<void> {
  if (process.platform !== "win32") await syncFile(path, "r");
}

export async function removeQuietly(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }).catch(() => undefined);
}

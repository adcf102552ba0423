// The owner-only folder that holds this process's segments: on a memory file system where there is one, else in the data folder.
// Its name tells whose it is, so that a later start can remove what a killed sidecar left behind. It never leaves the process except in a hello reply.

import { constants } from "node:fs";
import { access, lstat, mkdir, readdir, readlink, rm } from "node:fs/promises";
import { join } from "node:path";
import { randomSecret } from "../access/index.ts";
import { isAlive } from "../../process-alive.ts";

const memoryFileSystem = "/dev/shm";
const prefix = "refit-sidecar";

export interface SegmentFolderPlace {
  /** Where the folder is made. */
  readonly parent: string;
  /** Marks folders that this process may judge: same user, same process numbering (containers may share /dev/shm but not pids). */
  readonly owner: string;
}

export async function segmentPlace(dataDir: string, memory: string = memoryFileSystem): Promise<SegmentFolderPlace> {
  const user = process.getuid?.() ?? 0;
  const namespace = await readlink("/proc/self/ns/pid").then(
    (link) => /\d+/.exec(link)?.[0] ?? "0",
    () => "0",
  );
  const owner = `${prefix}-${user}-${namespace}`;
  try {
    if (process.platform === "win32") throw new Error("no memory file system");
    await access(memory, constants.W_OK | constants.X_OK);
    return { parent: memory, owner };
  } catch {
    return { parent: join(dataDir, "segments"), owner };
  }
}

/** Removes folders of processes that no longer live. Never follows a link, never touches another user's. Returns how many. */
export async function removeStale({ parent, owner }: SegmentFolderPlace, alive: (pid: number) => boolean = isAlive): Promise<number> {
  const names = await readdir(parent).catch(() => []);
  let removed = 0;
  for (const name of names) {
    const pid = name.startsWith(`${owner}-`) ? /^(\d+)-/.exec(name.slice(owner.length + 1))?.[1] : undefined;
    if (pid === undefined || alive(Number(pid))) continue;
    const path = join(parent, name);
    const stats = await lstat(path).catch(() => null);
    if (!stats?.isDirectory() || (process.getuid !== undefined && stats.uid !== process.getuid())) continue;
    // Windows refuses while a client still holds a file open; the next start tries again.
    await rm(path, { recursive: true, force: true }).then(
      () => (removed += 1),
      () => undefined,
    );
  }
  return removed;
}

/** Makes the folder; it must not exist yet (its name holds 128 random bits). */
export async function makeFolder({ parent, owner }: SegmentFolderPlace): Promise<string> {
  await mkdir(parent, { recursive: true, mode: 0o700 });
  const path = join(parent, `${owner}-${process.pid}-${randomSecret()}`);
  await mkdir(path, { mode: 0o700 });
  return path;
}

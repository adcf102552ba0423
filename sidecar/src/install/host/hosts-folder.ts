// <data>/hosts: folders of packages, and one small file per kind that says which folder is the installed one. Replacing that file is the switch.

import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { uptime } from "node:os";
import { isAbsolute, join, relative, resolve } from "node:path";
import { Failure } from "../../failure/index.ts";
import { isAlive } from "../../process-alive.ts";
import { replaceFile } from "../../files/index.ts";
import type { HostPython } from "../../host/index.ts";
import { pythonHosts, type InstalledHost, type PythonHost } from "./types.ts";

export const hostsFolder = (dataDir: string): string => join(dataDir, "hosts");
const pointer = (dataDir: string, kind: PythonHost): string => join(hostsFolder(dataDir), `${kind}.json`);
const lockName = "install.lock";
/** In a folder whose installation has not ended: what was being installed. */
const partialName = "installing.json";
/** A pointer holds a few hundred bytes. */
const maxPointerBytes = 64 * 1024;

/** The installed host of a kind; null when there is none. Throws INSTALL_HOST_DAMAGED for a pointer that cannot be read. */
export function installedHost(dataDir: string, kind: PythonHost): InstalledHost | null {
  let text: string;
  try {
    text = readFileSync(pointer(dataDir, kind), "utf8");
  } catch {
    return null;
  }
  try {
    const found = JSON.parse(text.slice(0, maxPointerBytes)) as InstalledHost;
    if (
      found.formatVersion === 1 &&
      found.kind === kind &&
      typeof found.python === "string" &&
      Array.isArray(found.paths) &&
      Array.isArray(found.folders)
    )
      return found;
  } catch {
    // Said below.
  }
  throw new Failure(
    "INSTALL_HOST_DAMAGED",
    `expected the record of the installed ${kind} host; it is damaged or of another version. Run "refit-sidecar host install ${kind}" again`,
    { kind },
  );
}

/** How an installed host is started; null when its Python or one of its folders is gone. */
export function pythonOf(dataDir: string, { python, paths }: Pick<InstalledHost, "python" | "paths">): HostPython | null {
  const found = { python: resolve(hostsFolder(dataDir), python), paths: paths.map((path) => resolve(hostsFolder(dataDir), path)) };
  return [found.python, ...found.paths].every((path) => existsSync(path)) ? found : null;
}

/** A path as a pointer keeps it: inside the hosts folder relative to it, so that the data folder can be moved. */
export function keptPath(dataDir: string, path: string): string {
  const inside = relative(hostsFolder(dataDir), path);
  return inside.startsWith("..") || isAbsolute(inside) ? path : inside;
}

export async function writePointer(dataDir: string, host: InstalledHost): Promise<void> {
  await replaceFile(pointer(dataDir, host.kind), (handle) => handle.writeFile(`${JSON.stringify(host, null, 2)}\n`), { mode: 0o600 });
}

export const removePointer = (dataDir: string, kind: PythonHost): Promise<void> => rm(pointer(dataDir, kind), { force: true });

/** A folder to install into: the one that an interrupted installation of the same plan left, or a new one. */
export async function openPartial(
  dataDir: string,
  kind: PythonHost,
  plan: unknown,
): Promise<{ readonly folder: string; readonly resumed: boolean }> {
  const root = hostsFolder(dataDir);
  const wanted = JSON.stringify(plan);
  for (const name of await readdir(root)) {
    if (!name.startsWith(`${kind}-`)) continue;
    const found = await readFile(join(root, name, partialName), "utf8").catch(() => null);
    if (found === wanted) return { folder: join(root, name), resumed: true };
  }
  const folder = join(root, `${kind}-${randomBytes(4).toString("hex")}`);
  await mkdir(folder);
  await writeFile(join(folder, partialName), wanted, { flush: true });
  return { folder, resumed: false };
}

export const finishPartial = (folder: string): Promise<void> => rm(join(folder, partialName), { force: true });

/** Removes every folder that no installed host needs. A folder in use by a running host is removed with its next installation (Windows refuses meanwhile). */
export async function clearUnused(dataDir: string): Promise<void> {
  const root = hostsFolder(dataDir);
  const needed = new Set(pythonHosts.flatMap((kind) => installedHost(dataDir, kind)?.folders ?? []));
  for (const entry of await readdir(root, { withFileTypes: true })) {
    if (entry.isDirectory() && !needed.has(entry.name))
      await rm(join(root, entry.name), { recursive: true, force: true, maxRetries: 3, retryDelay: 100 }).catch(() => undefined);
  }
}

/** Bytes of all files below a folder. */
export async function folderBytes(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name)).catch(() => ({ size: 0 }))).size;
  }
  return bytes;
}

/** One installation per data folder. Throws INSTALL_BUSY. */
export async function lockHosts(dataDir: string): Promise<() => Promise<void>> {
  await mkdir(hostsFolder(dataDir), { recursive: true, mode: 0o700 });
  const path = join(hostsFolder(dataDir), lockName);
  for (let attempt = 0; ; attempt += 1) {
    try {
      const file = await open(path, "wx", 0o600);
      await file.writeFile(String(process.pid)).finally(() => file.close());
      return () => rm(path, { force: true });
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
      const pid = Number.parseInt(await readFile(path, "utf8").catch(() => ""), 10);
      const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Date.now() }));
      const beforeBoot = mtimeMs < Date.now() - uptime() * 1000 - 1000;
      if (attempt > 0 || (isAlive(pid) && !beforeBoot))
        throw new Failure(
          "INSTALL_BUSY",
          `another installation (process ${pid}) is at work in this data folder; wait for it, or end it and run the command again`,
          { pid },
        );
      await rm(path, { force: true });
    }
  }
}

// One sidecar per data folder, also when two start in the same instant: sidecar.json says who runs only after it listens.

import { randomUUID } from "node:crypto";
import { link, open, readFile, rename, rm, stat } from "node:fs/promises";
import { uptime } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { Failure } from "../failure/index.ts";
import { findRunning, prepareDataDir } from "./discovery.ts";
import { isAlive } from "../process-alive.ts";

const lockName = "sidecar.lock";
/** A sidecar listens within a second or two of its start; one that does not answer by then is another program under an old process number. */
const startingMs = 10_000;
const pollMs = 100;

export interface LockParts {
  readonly alive: (pid: number) => boolean;
  readonly running: (dataDir: string) => Promise<{ readonly pid: number } | null>;
  readonly startingMs: number;
}

/** Makes the data folder and takes it for this process; the answer gives it back. Throws WIRE_DATA_DIR_UNSAFE and WIRE_ALREADY_RUNNING. */
export async function lockDataDir(
  dataDir: string,
  { alive, running, startingMs: patienceMs }: LockParts = { alive: isAlive, running: findRunning, startingMs },
): Promise<() => Promise<void>> {
  await prepareDataDir(dataDir);
  const path = join(dataDir, lockName);
  const own = `${process.pid} ${randomUUID()}`;
  const deadline = performance.now() + patienceMs;
  for (;;) {
    if (await created(path, own)) return async () => void (await removedIf(path, own));
    const found = await readFile(path, "utf8").catch(() => "");
    const pid = Number.parseInt(found, 10);
    const sidecar = await running(dataDir);
    if (sidecar !== null)
      throw new Failure(
        "WIRE_ALREADY_RUNNING",
        `a sidecar (process ${sidecar.pid}) already serves this data folder; use it, end it, or choose another --data-dir`,
      );
    // Being written this moment, or a sidecar that is starting and will answer soon.
    const mayStart = found === "" || (Number.isInteger(pid) && alive(pid) && !(await isFromBeforeBoot(path)));
    if (mayStart && performance.now() < deadline) await wait(pollMs);
    else await removedIf(path, found);
  }
}

async function created(path: string, content: string): Promise<boolean> {
  // Linked into place whole, so that nobody reads half a lock.
  const temporary = `${path}.${randomUUID()}`;
  const file = await open(temporary, "wx", 0o600);
  try {
    await file.writeFile(content);
  } finally {
    await file.close();
  }
  try {
    await link(temporary, path);
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    // A file system without hard links (exFAT, some network drives).
    return await createdInPlace(path, content);
  } finally {
    await rm(temporary, { force: true });
  }
}

async function createdInPlace(path: string, content: string): Promise<boolean> {
  try {
    const file = await open(path, "wx", 0o600);
    await file.writeFile(content).finally(() => file.close());
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    throw error;
  }
}

const codeOf = (error: unknown): unknown => (error instanceof Error && "code" in error ? error.code : null);

/** Removes the lock while it holds `content`. One that somebody else put there meanwhile goes back. */
async function removedIf(path: string, content: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`;
  try {
    await rename(path, aside);
  } catch {
    return;
  }
  if ((await readFile(aside, "utf8").catch(() => content)) !== content) await link(aside, path).catch(() => undefined);
  await rm(aside, { force: true });
}

async function isFromBeforeBoot(path: string): Promise<boolean> {
  const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Date.now() }));
  return mtimeMs < Date.now() - uptime() * 1000 - 1000;
}

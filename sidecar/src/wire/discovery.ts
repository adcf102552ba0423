// sidecar.json in the data folder: how plugins and the command line find a running sidecar. Only its owner may read it.
// On Windows the mode says nothing: the file is as private as the user's profile folder, whose access list it inherits.

import { mkdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { Failure } from "../failure/index.ts";
import { replaceFile } from "../files/index.ts";
import { isAlive } from "../process-alive.ts";

export interface Discovery {
  readonly url: string;
  readonly ws_url: string;
  readonly token: string;
  readonly read_token: string;
  readonly pid: number;
  readonly version: string;
}

const discoveryName = "sidecar.json";
/** Ours is below 1 KiB; more is not ours. */
const maxBytes = 64 * 1024;

/** Makes the data folder for its owner alone. One that others may write to is refused: they could put a sidecar of their own into our place. */
export async function prepareDataDir(dataDir: string): Promise<void> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  const { mode, uid } = await stat(dataDir);
  const foreign = process.getuid !== undefined && uid !== process.getuid() && uid !== 0;
  if (process.platform !== "win32" && (foreign || (mode & 0o022) !== 0)) {
    throw new Failure(
      "WIRE_DATA_DIR_UNSAFE",
      "expected a data folder that only its owner may write to; others could replace what clients trust. Remove the write permission for group and others (chmod go-w), or choose another folder",
    );
  }
}

function isDiscovery(value: unknown): value is Discovery {
  if (typeof value !== "object" || value === null) return false;
  const fields = new Map<string, unknown>(Object.entries(value));
  return (
    typeof fields.get("pid") === "number" &&
    ["url", "ws_url", "token", "read_token", "version"].every((name) => typeof fields.get(name) === "string")
  );
}

/** What the file says, or null when there is none or it is not one. */
export async function readDiscovery(dataDir: string): Promise<Discovery | null> {
  const path = join(dataDir, discoveryName);
  try {
    if ((await stat(path)).size > maxBytes) return null;
    const value: unknown = JSON.parse(await readFile(path, "utf8"));
    return isDiscovery(value) ? value : null;
  } catch {
    return null;
  }
}

/**
 * The sidecar that runs on this data folder, or null. A live pid is not enough, since pids are reused: the address must answer to the file's own token.
 */
export async function findRunning(
  dataDir: string,
  probe: (discovery: Discovery) => Promise<boolean> = answersToToken,
): Promise<Discovery | null> {
  const discovery = await readDiscovery(dataDir);
  if (discovery === null || !isAlive(discovery.pid)) return null;
  return (await probe(discovery)) ? discovery : null;
}

async function answersToToken({ url, read_token }: Discovery): Promise<boolean> {
  try {
    const reply = await fetch(new URL("/healthz", url), {
      headers: { authorization: `Bearer ${read_token}` },
      redirect: "error",
      signal: AbortSignal.timeout(2_000),
    });
    const body: unknown = await reply.json();
    return reply.ok && typeof body === "object" && body !== null && "authenticated" in body && body.authenticated === true;
  } catch {
    return false;
  }
}

export async function writeDiscovery(dataDir: string, discovery: Discovery): Promise<void> {
  try {
    await replaceFile(join(dataDir, discoveryName), (handle) => handle.writeFile(`${JSON.stringify(discovery, null, 2)}\n`), {
      mode: 0o600,
    });
  } catch (error) {
    throw new Failure(
      "WIRE_DISCOVERY_FAILED",
      "sidecar.json could not be written to the data folder; clients could not find this sidecar",
      {},
      { cause: error },
    );
  }
}

/** Removes the file if it is still this sidecar's. */
export async function removeDiscovery(dataDir: string, token: string): Promise<void> {
  if ((await readDiscovery(dataDir))?.token === token) await rm(join(dataDir, discoveryName), { force: true });
}

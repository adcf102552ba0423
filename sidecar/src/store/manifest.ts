import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { Failure } from "../failure/index.ts";
import { entryName, storeFormatVersion } from "./key.ts";
import type { EngineFinger, EngineKey } from "./key.ts";

export const manifestName = "manifest.json";

export interface StoredFile {
  readonly name: string;
  readonly sizeBytes: number;
  readonly sha256: string;
}

/** The only thing an engine is loaded from: a file that is not listed here does not exist for us. */
export interface Manifest {
  readonly formatVersion: number;
  readonly key: EngineKey;
  readonly finger: EngineFinger;
  readonly createdAt: string;
  readonly files: readonly StoredFile[];
  /** "own" or the fingerprint of the key whose bundle it came from. */
  readonly origin: string;
}

/** A manifest is a few KB; anything larger is not ours. */
const maxManifestBytes = 4 * 1024 * 1024;

export async function hashOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

function damaged(entry: string, what: string): Failure {
  return new Failure(
    "STORE_DAMAGED",
    `engine ${entry.slice(0, 12)} in the store is damaged: ${what}. It is rebuilt when it is needed; "refit-sidecar cache rm ${entry.slice(0, 12)}" removes it`,
    { entry },
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function texts<Name extends string>(value: unknown, names: readonly Name[]): Record<Name, string> | null {
  if (!isRecord(value)) return null;
  const result: Record<string, string> = {};
  for (const name of names) {
    const text = value[name];
    if (typeof text !== "string") return null;
    result[name] = text;
  }
  return result as Record<Name, string>;
}

/** A plain file name: no folder, no dot names, so that a manifest cannot point outside its entry. */
export function isPlainName(name: string): boolean {
  return /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/.test(name);
}

/** Checks shape and names of a manifest; null when anything is off. */
export function parseManifest(value: unknown): Manifest | null {
  if (
    !isRecord(value) ||
    value["formatVersion"] !== storeFormatVersion ||
    typeof value["createdAt"] !== "string" ||
    typeof value["origin"] !== "string"
  )
    return null;
  const key = texts(value["key"], ["structure", "precision", "profile", "host", "library", "capability", "driverBranch"]);
  const finger = texts(value["finger"], ["libraryVersion", "driver", "device"]);
  if (!key || !finger || !Array.isArray(value["files"]) || value["files"].length === 0 || value["files"].length > 1000) return null;
  const files: StoredFile[] = [];
  for (const file of value["files"] as unknown[]) {
    if (!isRecord(file) || typeof file["name"] !== "string" || !isPlainName(file["name"]) || file["name"] === manifestName) return null;
    if (typeof file["sizeBytes"] !== "number" || !Number.isSafeInteger(file["sizeBytes"]) || file["sizeBytes"] < 0) return null;
    if (typeof file["sha256"] !== "string" || !/^[0-9a-f]{64}$/.test(file["sha256"])) return null;
    files.push({ name: file["name"], sizeBytes: file["sizeBytes"], sha256: file["sha256"] });
  }
  if (new Set(files.map((file) => file.name.toLowerCase())).size !== files.length) return null;
  return { formatVersion: storeFormatVersion, key, finger, createdAt: value["createdAt"], files, origin: value["origin"] };
}

/** Reads an entry's manifest and checks that it belongs to the entry. Throws Failure STORE_DAMAGED, or ENOENT when there is no such entry. */
export async function readManifest(folder: string, entry: string): Promise<Manifest> {
  const path = join(folder, manifestName);
  // Windows says ENOENT for a path that leads through a file, which would be taken for an entry that is not there.
  if (!(await stat(folder)).isDirectory()) throw new Error(`expected the folder of an entry at ${entry}, found something else`);
  if ((await stat(path)).size > maxManifestBytes) throw damaged(entry, "its manifest is larger than any that is written here");
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, "utf8"));
  } catch {
    throw damaged(entry, "its manifest is not JSON");
  }
  const manifest = parseManifest(value);
  if (!manifest) throw damaged(entry, "its manifest is not one of this version");
  if (entryName(manifest.key) !== entry) throw damaged(entry, "its manifest belongs to another engine");
  return manifest;
}

/** Reads every file of an entry and compares size and SHA-256. Throws Failure STORE_DAMAGED naming the file. */
export async function verifyEntry(folder: string, entry: string, manifest: Manifest): Promise<void> {
  for (const file of manifest.files) {
    const path = join(folder, file.name);
    const size = await stat(path).then(
      (found) => (found.isFile() ? found.size : -1),
      () => -1,
    );
    if (size !== file.sizeBytes)
      throw damaged(entry, `${file.name} should have ${file.sizeBytes} bytes and has ${size < 0 ? "none" : size}`);
    if ((await hashOf(path)) !== file.sha256) throw damaged(entry, `the checksum of ${file.name} is wrong`);
  }
}

import { randomBytes } from "node:crypto";
import { mkdir, readdir, rename, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Failure } from "../failure/index.ts";
import { removeQuietly, syncFile, syncFolder } from "./durable.ts";
import { entryName, sameFinger, storeFormatVersion } from "./key.ts";
import type { EngineFinger, EngineKey } from "./key.ts";
import { hashOf, isPlainName, manifestName, readManifest, verifyEntry } from "./manifest.ts";
import type { Manifest } from "./manifest.ts";

export interface StoreOptions {
  readonly folder: string;
  /** false: entries are read and never written, touched or removed (a shared store on a read-only disk). */
  readonly writable: boolean;
  readonly maxBytes: number;
  readonly nowMs?: () => number;
}

export type Lookup =
  | { readonly found: "miss" }
  /** `exact` false: library, driver or device differ slightly; the engine is UNKNOWN until refitted in full and checked. */
  | { readonly found: "hit"; readonly exact: boolean; readonly entry: string; readonly folder: string; readonly manifest: Manifest }
  | { readonly found: "damaged"; readonly entry: string; readonly problem: Failure };

export interface EntryInfo {
  readonly entry: string;
  readonly manifest: Manifest | null;
  readonly sizeBytes: number;
  readonly usedAt: string;
  readonly pinned: boolean;
  readonly problem: string | null;
}

export interface Staging {
  /** Write the engine's files here, plain names, no folders. */
  readonly folder: string;
  readonly publish: (key: EngineKey, finger: EngineFinger, origin?: string) => Promise<{ readonly entry: string; readonly folder: string }>;
  readonly discard: () => Promise<void>;
}

export interface Store {
  /** Checks every checksum before it answers "hit"; a damaged entry is moved away, so that it is rebuilt and never served. */
  readonly find: (key: EngineKey, finger: EngineFinger) => Promise<Lookup>;
  readonly stage: () => Promise<Staging>;
  readonly list: () => Promise<readonly EntryInfo[]>;
  readonly verify: (entry: string) => Promise<Failure | null>;
  readonly remove: (entry: string) => Promise<boolean>;
  readonly pin: (entry: string, pinned: boolean) => Promise<void>;
  /** Removes the least recently used entries, neither pinned nor in use, until the store fits. Returns what went. */
  readonly prune: (maxBytes?: number) => Promise<readonly EntryInfo[]>;
  /** While held, prune leaves the entry alone. Returns the release. */
  readonly hold: (entry: string) => () => void;
}

const pinName = "pinned";
const tempPrefix = "tmp-";
const goingPrefix = "gone-";
/** Staging folders of a process that died are cleared after this; a build takes minutes, never a day. */
const staleTempMs = 24 * 60 * 60 * 1000;
/** Another sidecar may have looked an entry up a moment ago and be loading it. */
const justUsedMs = 60_000;

/** Opens (and where writable, makes) a store. Two processes may share one: publishing is a rename, and the first one wins. */
export async function openStore(options: StoreOptions): Promise<Store> {
  const nowMs = options.nowMs ?? Date.now;
  const held = new Map<string, number>();
  const at = (entry: string) => join(options.folder, entry);
  if (options.writable) {
    await mkdir(options.folder, { recursive: true, mode: 0o700 });
    await clearLeftovers();
  }

  async function clearLeftovers(): Promise<void> {
    for (const name of await readdir(options.folder)) {
      // The last: a note whose writer was killed.
      if (!name.startsWith(tempPrefix) && !name.startsWith(goingPrefix) && !/^\..*\.tmp$/.test(name)) continue;
      const age = await stat(at(name)).then(
        (found) => nowMs() - found.mtimeMs,
        () => 0,
      );
      if (name.startsWith(goingPrefix) || age > staleTempMs) await removeQuietly(at(name));
    }
  }

  function requireWritable(): void {
    if (!options.writable)
      throw new Failure(
        "STORE_READ_ONLY",
        "this engine store is only read; name a folder that may be changed with --engine-store, and leave --engine-store-write on",
        {},
      );
  }

  /** Gone from its name at once, from the disk when it is no longer open anywhere. */
  async function moveAway(entry: string): Promise<boolean> {
    const going = at(`${goingPrefix}${randomBytes(8).toString("hex")}`);
    try {
      await rename(at(entry), going);
    } catch {
      return false;
    }
    await removeQuietly(going);
    return true;
  }

  async function describe(entry: string): Promise<EntryInfo> {
    const folder = at(entry);
    const usedAt = await stat(join(folder, manifestName)).then(
      (found) => found.mtime.toISOString(),
      () => new Date(0).toISOString(),
    );
    const pinned = await stat(join(folder, pinName)).then(
      () => true,
      () => false,
    );
    try {
      const manifest = await readManifest(folder, entry);
      return { entry, manifest, sizeBytes: manifest.files.reduce((sum, file) => sum + file.sizeBytes, 0), usedAt, pinned, problem: null };
    } catch (error) {
      return { entry, manifest: null, sizeBytes: 0, usedAt, pinned, problem: error instanceof Error ? error.message : String(error) };
    }
  }

  async function list(): Promise<EntryInfo[]> {
    const names = await readdir(options.folder).catch(() => []);
    return Promise.all(names.filter((name) => /^[0-9a-f]{64}$/.test(name)).map(describe));
  }

  async function find(key: EngineKey, finger: EngineFinger): Promise<Lookup> {
    const entry = entryName(key);
    const folder = at(entry);
    try {
      const manifest = await readManifest(folder, entry);
      await verifyEntry(folder, entry, manifest);
      if (options.writable) await utimes(join(folder, manifestName), new Date(nowMs()), new Date(nowMs())).catch(() => undefined);
      return { found: "hit", exact: sameFinger(manifest.finger, finger), entry, folder, manifest };
    } catch (error) {
      if (error instanceof Failure) {
        if (options.writable) await moveAway(entry);
        return { found: "damaged", entry, problem: error };
      }
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return { found: "miss" };
      throw new Failure(
        "STORE_UNREADABLE",
        "the engine store could not be read; check the folder's permissions and its disk",
        { entry },
        { cause: error },
      );
    }
  }

  async function publish(folder: string, key: EngineKey, finger: EngineFinger, origin: string): Promise<{ entry: string; folder: string }> {
    const entry = entryName(key);
    const names = (await readdir(folder)).filter((name) => name !== manifestName);
    const wrong = names.find((name) => !isPlainName(name));
    if (wrong !== undefined || names.length === 0)
      throw new Failure(
        "STORE_FILES",
        `expected an engine's files under plain names, got ${wrong === undefined ? "none" : JSON.stringify(wrong)}`,
        {},
      );
    const files = [];
    for (const name of names.toSorted()) {
      const path = join(folder, name);
      await syncFile(path);
      files.push({ name, sizeBytes: (await stat(path)).size, sha256: await hashOf(path) });
    }
    const manifest: Manifest = {
      formatVersion: storeFormatVersion,
      key,
      finger,
      createdAt: new Date(nowMs()).toISOString(),
      files,
      origin,
    };
    await writeFile(join(folder, manifestName), `${JSON.stringify(manifest, null, 1)}\n`, { mode: 0o600 });
    await syncFile(join(folder, manifestName));
    await syncFolder(folder);
    try {
      await rename(folder, at(entry));
    } catch (cause) {
      // Another process published the same engine first: theirs is as good, if it is whole.
      const present = await readManifest(at(entry), entry)
        .then(
          async (found) => verifyEntry(at(entry), entry, found).then(() => true),
          () => false,
        )
        .catch(() => false);
      if (present) await removeQuietly(folder);
      else if (await moveAway(entry)) await rename(folder, at(entry));
      else throw cause;
    }
    await syncFolder(options.folder);
    return { entry, folder: at(entry) };
  }

  async function prune(maxBytes = options.maxBytes): Promise<readonly EntryInfo[]> {
    requireWritable();
    const entries = (await list()).toSorted((a, b) => (a.usedAt < b.usedAt ? -1 : 1));
    let total = entries.reduce((sum, info) => sum + info.sizeBytes, 0);
    const gone: EntryInfo[] = [];
    for (const info of entries) {
      if (total <= maxBytes) break;
      if (info.pinned || held.has(info.entry) || Math.abs(nowMs() - Date.parse(info.usedAt)) < justUsedMs) continue;
      if (!(await moveAway(info.entry))) continue;
      total -= info.sizeBytes;
      gone.push(info);
    }
    return gone;
  }

  return {
    find,
    list,
    prune,
    async stage() {
      requireWritable();
      const folder = at(`${tempPrefix}${process.pid}-${randomBytes(8).toString("hex")}`);
      await mkdir(folder, { mode: 0o700 });
      return {
        folder,
        discard: () => removeQuietly(folder),
        async publish(key, finger, origin = "own") {
          try {
            return await publish(folder, key, finger, origin);
          } catch (cause) {
            await removeQuietly(folder);
            if (cause instanceof Failure) throw cause;
            throw new Failure(
              "STORE_WRITE",
              "the engine could not be kept in the store (is the disk full or read-only?); it works for now and is built again next time",
              {},
              { cause },
            );
          }
        },
      };
    },
    async verify(entry) {
      try {
        await verifyEntry(at(entry), entry, await readManifest(at(entry), entry));
        return null;
      } catch (error) {
        if (error instanceof Failure) return error;
        return new Failure("STORE_MISSING", `there is no engine ${entry.slice(0, 12)} in the store; "refit-sidecar cache ls" lists them`, {
          entry,
        });
      }
    },
    async remove(entry) {
      requireWritable();
      return moveAway(entry);
    },
    async pin(entry, pinned) {
      requireWritable();
      if (pinned) await writeFile(join(at(entry), pinName), "");
      else await removeQuietly(join(at(entry), pinName));
    },
    hold(entry) {
      held.set(entry, (held.get(entry) ?? 0) + 1);
      let released = false;
      return () => {
        if (released) return;
        released = true;
        const left = (held.get(entry) ?? 1) - 1;
        if (left === 0) held.delete(entry);
        else held.set(entry, left);
      };
    },
  };
}

// What this version makes of a data folder that another version wrote. Nothing of a user's is in it: whatever is not kept is made again from models and adapters when it is wanted.

import { readFile, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { native } from "@refit-sidecar/native";
import { catalogFormat } from "../../catalog/index.ts";
import { isFoundAgain } from "../../delta/index.ts";
import { Failure } from "../../failure/index.ts";
import { readLastUsed } from "../../pipeline/index.ts";
import { openStore } from "../../store/index.ts";
import { decodeDeltaHeader } from "../../terms/index.ts";

export interface StoreRow {
  readonly store: "catalog" | "deltas" | "engines" | "hosts" | "last-used";
  readonly kept: number;
  /** Of another format, or damaged: removed here, and made again when it is wanted. */
  readonly removed: number;
  readonly removedBytes: number;
  readonly text: string;
}

const names = async (folder: string): Promise<readonly string[]> => readdir(folder).catch(() => []);
const textOf = async (path: string): Promise<string | null> => readFile(path, "utf8").catch(() => null);

async function catalogRow(dataDir: string): Promise<StoreRow> {
  const path = join(dataDir, "catalog.json");
  const text = await textOf(path);
  const row = { store: "catalog", kept: 0, removed: 0, removedBytes: 0 } as const;
  if (text === null) return { ...row, text: "none" };
  if (text.startsWith(`${catalogFormat} `)) return { ...row, kept: 1, text: "kept" };
  await rm(path, { force: true });
  return {
    ...row,
    removed: 1,
    removedBytes: text.length,
    text: "of another format: folders are read again at the next start (headers only)",
  };
}

const keptText = (kept: number, removed: number, why: string): string =>
  removed === 0 ? `${kept} kept` : `${kept} kept, ${removed} of another ${why}`;

async function deltaRow(dataDir: string): Promise<StoreRow> {
  const folder = join(dataDir, "deltas");
  let [kept, removed, removedBytes] = [0, 0, 0];
  for (const name of await names(folder)) {
    if (!name.endsWith(".delta")) continue;
    const path = join(folder, name);
    try {
      if (!isFoundAgain(name)) throw new Error("of another packing");
      decodeDeltaHeader((await native.readHeader(path)).metadata);
      kept += 1;
    } catch {
      removedBytes += await stat(path).then(
        ({ size }) => size,
        () => 0,
      );
      await rm(path, { force: true });
      await rm(`${path}.used`, { force: true });
      removed += 1;
    }
  }
  return {
    store: "deltas",
    kept,
    removed,
    removedBytes,
    text: keptText(kept, removed, "format or packing removed: each is packed again from its adapter when it is wanted"),
  };
}

async function engineRow(dataDir: string): Promise<StoreRow> {
  const folder = join(dataDir, "engines");
  const row = { store: "engines" } as const;
  if ((await names(folder)).length === 0) return { ...row, kept: 0, removed: 0, removedBytes: 0, text: "none" };
  const store = await openStore({ folder, writable: true, maxBytes: Number.MAX_SAFE_INTEGER });
  let [kept, removed, removedBytes] = [0, 0, 0];
  for (const { entry, manifest, sizeBytes } of await store.list()) {
    if (manifest !== null) kept += 1;
    else if (await store.remove(entry)) [removed, removedBytes] = [removed + 1, removedBytes + sizeBytes];
  }
  return {
    ...row,
    kept,
    removed,
    removedBytes,
    text: keptText(kept, removed, "format removed: each is exported or compiled again when it is wanted"),
  };
}

async function lastUsedRow(dataDir: string): Promise<StoreRow> {
  const path = join(dataDir, "last-used.json");
  const text = await textOf(path);
  const row = { store: "last-used", kept: 0, removed: 0, removedBytes: 0 } as const;
  if (text === null) return { ...row, text: "none" };
  if ((await readLastUsed(path)) !== null) return { ...row, kept: 1, text: "kept" };
  await rm(path, { force: true });
  return { ...row, removed: 1, removedBytes: text.length, text: "of another format: nothing is warmed up at the next start" };
}

async function hostRow(dataDir: string): Promise<StoreRow> {
  const found = await names(join(dataDir, "hosts"));
  return {
    store: "hosts",
    kept: found.length,
    removed: 0,
    removedBytes: 0,
    text:
      found.length === 0
        ? "none"
        : 'kept; their code comes with the sidecar. "refit-sidecar doctor" says whether their packages are still enough',
  };
}

/** Removes what this version cannot read from a data folder that no sidecar uses, and says what stays. Throws Failure CLI_UPDATE_DATA when the folder cannot be changed. */
export async function sortStores(dataDir: string): Promise<readonly StoreRow[]> {
  try {
    return [
      await catalogRow(dataDir),
      await deltaRow(dataDir),
      await engineRow(dataDir),
      await lastUsedRow(dataDir),
      await hostRow(dataDir),
    ];
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    throw new Failure(
      "CLI_UPDATE_DATA",
      `expected to read and change the data folder; the system answered ${cause instanceof Error && "code" in cause ? String(cause.code) : "an error"}. See to its permissions and run "refit-sidecar update --stores".`,
      {},
      { cause },
    );
  }
}

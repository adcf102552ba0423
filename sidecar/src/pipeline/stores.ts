// Which engine stores are read and written, for graphs here and for compiled engines in the hosts; keeps the written one within its size.

import { rm } from "node:fs/promises";
import { join } from "node:path";
import { mebibyte } from "../options/index.ts";
import type { Options } from "../options/index.ts";
import { openStore } from "../store/index.ts";
import type { Store } from "../store/index.ts";
import type { Log } from "../telemetry/index.ts";

export interface Stores {
  /** Where what is made here goes: the store, or with `engine-store-write = off` a folder that lives as long as this process. */
  readonly own: Store;
  /** In the order in which they are searched. */
  readonly readable: readonly Store[];
  /** Where hosts leave notes about this computer beside their engines; null: they are not to be read. */
  readonly notes: string | null;
  /** Flags of a GPU host, which reads and writes the same stores. */
  readonly flags: readonly string[];
  /** Brings the store within its size, in the background. */
  readonly prune: () => void;
  readonly close: () => Promise<void>;
}

type StoreOptions = Pick<Options, "engine-store" | "engine-store-size" | "engine-store-read" | "engine-store-write" | "shared-store">;

/** Hosts keep engines without a word to us; an hour's worth of them is not much beyond the size. */
const pruneEveryMs = 10 * 60_000;

/** `options` is asked again at every pruning: the size is reloaded. Throws what opening a store throws. */
export async function openStores(options: () => StoreOptions, dataDir: string, log: Log): Promise<Stores> {
  const given = options();
  const folder = given["engine-store"] ?? join(dataDir, "engines");
  const reads = given["engine-store-read"] === "on";
  const writes = given["engine-store-write"] === "on";
  const maxBytes = () => options()["engine-store-size"] * mebibyte;
  const unkept = join(dataDir, "engines-unkept");
  await rm(unkept, { recursive: true, force: true });
  const store = await openStore({ folder, writable: writes, maxBytes: maxBytes() });
  const own = writes ? store : await openStore({ folder: unkept, writable: true, maxBytes: maxBytes() });
  const shared = given["shared-store"] === null ? [] : [await openStore({ folder: given["shared-store"], writable: false, maxBytes: 0 })];
  const sharedFlags = given["shared-store"] === null ? [] : ["--read-store", given["shared-store"]];
  let pruning: Promise<void> | null = null;

  async function pruned(): Promise<void> {
    const gone = await own.prune(maxBytes());
    if (gone.length > 0)
      log.info(
        `${gone.length} engines that were not used for longest left the store, ${Math.round(gone.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) / mebibyte)} MiB; it may hold ${options()["engine-store-size"]} MiB`,
      );
  }

  const prune = (): void => {
    pruning ??= pruned()
      .catch((error: unknown) => log.warn(`the engine store could not be brought within its size: ${String(error)}`))
      .finally(() => void (pruning = null));
  };
  prune();
  const timer = setInterval(prune, pruneEveryMs);
  timer.unref();

  return {
    own,
    readable: [...(reads ? [store] : []), ...shared],
    notes: reads ? folder : null,
    flags: [
      ...(writes ? ["--store", folder, ...(reads ? [] : ["--store-unread"])] : reads ? ["--read-store", folder] : []),
      ...sharedFlags,
    ],
    prune,
    async close() {
      clearInterval(timer);
      if (pruning !== null) await pruning;
      if (!writes) await rm(unkept, { recursive: true, force: true });
    },
  };
}

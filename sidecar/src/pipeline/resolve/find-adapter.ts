// Which catalogued file do these tensors come from? Asked by a plugin that sees a LoRA's tensors in memory, but not the file's name.

import { createHash } from "node:crypto";
import { LRUCache } from "lru-cache";
import { native } from "@refit-sidecar/native";
import type { WireParams, WireResult } from "@refit-sidecar/protocol";
import type { AdapterEntry, Catalog } from "../../catalog/index.ts";

type Wanted = WireParams<"adapter.find">["tensors"][number];

/** Hashes of an adapter's tensors, by content hash of the file: a match needs every wanted tensor, so a whole table is kept per file. */
export interface AdapterFinder {
  readonly find: (tensors: readonly Wanted[]) => Promise<WireResult<"adapter.find">["adapter"]>;
}

/** About 150 bytes a tensor: 64 files of 2,000 tensors stay below 20 MB. */
const keptFiles = 64;

const kindOf = (dtype: string, shape: readonly number[]) => `${dtype} ${shape.join(",")}`;

export function createAdapterFinder(catalog: Catalog): AdapterFinder {
  /** By file hash: tensor hash to the dtypes and shapes that it occurs with. */
  const tables = new LRUCache<string, Map<string, Set<string>>>({ max: keptFiles });

  /** Files whose header has every wanted dtype and shape, most plausible (fewest tensors) first. Headers only. */
  async function candidates(tensors: readonly Wanted[]): Promise<AdapterEntry[]> {
    const wanted = new Set(tensors.map(({ dtype, shape }) => kindOf(dtype, shape)));
    const found: AdapterEntry[] = [];
    for (const entry of catalog.snapshot().entries.values()) {
      if (entry.kind !== "adapter" || entry.problem !== null || entry.tensors < tensors.length) continue;
      const header = await native.readHeader(entry.path).catch(() => null);
      if (header === null) continue;
      const present = new Set([...header.entries.values()].map(({ dtype, shape }) => kindOf(dtype, shape)));
      const keysFit = tensors.every(({ key, dtype, shape }) => {
        const tensor = key === undefined ? undefined : header.entries.get(key);
        return key === undefined || (tensor !== undefined && kindOf(tensor.dtype, tensor.shape) === kindOf(dtype, shape));
      });
      if (keysFit && [...wanted].every((kind) => present.has(kind))) found.push(entry);
    }
    return found.sort((a, b) => a.tensors - b.tensors);
  }

  async function tableOf(entry: AdapterEntry): Promise<Map<string, Set<string>>> {
    const { sha256 } = await catalog.identity(entry.id, "full");
    const known = tables.get(sha256);
    if (known) return known;
    const table = new Map<string, Set<string>>();
    const file = await native.openTensorFile(entry.path);
    try {
      for (const { name, dtype, shape } of file.header.entries.values()) {
        const hash = createHash("sha256")
          .update(await file.read(name))
          .digest("hex");
        const kinds = table.get(hash) ?? new Set();
        table.set(hash, kinds.add(kindOf(dtype, shape)));
      }
      await file.checkUnchanged();
    } finally {
      await file.close();
    }
    tables.set(sha256, table);
    return table;
  }

  return {
    async find(tensors) {
      for (const entry of await candidates(tensors)) {
        // A file that vanishes while it is looked at is simply not the one.
        const table = await tableOf(entry).catch(() => null);
        if (table === null || !tensors.every(({ sha256, dtype, shape }) => table.get(sha256)?.has(kindOf(dtype, shape)))) continue;
        const { sha256 } = await catalog.identity(entry.id, "full");
        return { id: entry.id, sha256, name: entry.name };
      }
      return null;
    },
  };
}

// Real files in a folder of their own, and the events that arrivals would send about them.

import { mkdirSync, mkdtempSync, readFileSync, realpathSync, renameSync, rmSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { ArrivalEvent, RefusalCode, WatchedFolder } from "../../../sidecar/src/arrivals/index.ts";
import { createCatalog } from "../../../sidecar/src/catalog/index.ts";
import type { Catalog, CatalogChange, CatalogEntry } from "../../../sidecar/src/catalog/index.ts";
import { createReader } from "../../../sidecar/src/catalog/read/index.ts";
import type { Reader } from "../../../sidecar/src/catalog/reader.ts";

export interface TensorSpec {
  readonly dtype?: "F16" | "F32" | "BF16" | "F8_E4M3" | "I64";
  readonly shape: readonly number[];
}

const bytesOf = { F16: 2, BF16: 2, F32: 4, F8_E4M3: 1, I64: 8 };

/** A safetensors file whose data is `fill` throughout. */
export function safetensors(
  specs: Readonly<Record<string, TensorSpec | readonly number[]>>,
  fill = 1,
  metadata?: Readonly<Record<string, string>>,
): Buffer {
  let offset = 0;
  const header: Record<string, unknown> = metadata === undefined ? {} : { __metadata__: metadata };
  for (const [name, given] of Object.entries(specs)) {
    const spec: TensorSpec = "shape" in given ? given : { shape: given };
    const dtype = spec.dtype ?? "F16";
    const bytes = spec.shape.reduce((product, dim) => product * dim, 1) * bytesOf[dtype];
    header[name] = { dtype, shape: spec.shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, Buffer.alloc(offset, fill)]);
}

/** A small LoRA for SD1.5. */
export function lora(fill = 1, rank = 2): Buffer {
  const stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k";
  return safetensors({ [`${stem}.lora_down.weight`]: [rank, 768], [`${stem}.lora_up.weight`]: [4, rank], [`${stem}.alpha`]: [] }, fill);
}

/** A checkpoint in the SD1.5 layout, a few kilobytes. */
export const tinyUnet: Readonly<Record<string, readonly number[]>> = {
  "input_blocks.0.0.weight": [8, 4, 3, 3],
  "input_blocks.1.0.in_layers.2.weight": [8, 8, 3, 3],
  "input_blocks.1.0.out_layers.3.weight": [8, 8, 3, 3],
  "input_blocks.1.1.proj_in.weight": [8, 8, 1, 1],
  "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": [8, 16],
  "middle_block.0.in_layers.2.weight": [8, 8, 3, 3],
  "output_blocks.0.0.in_layers.2.weight": [8, 16, 3, 3],
  "out.2.weight": [4, 8, 3, 3],
};

export interface World {
  readonly root: string;
  readonly folder: WatchedFolder;
  readonly other: WatchedFolder;
  readonly catalog: Catalog;
  readonly changes: CatalogChange[];
  readonly headerReads: () => number;
  readonly troubles: string[];
  readonly write: (name: string, bytes: Uint8Array | string, folder?: WatchedFolder) => string;
  readonly settled: (name: string, folder?: WatchedFolder, renamedFrom?: string) => ArrivalEvent;
  readonly gone: (name: string, folder?: WatchedFolder) => ArrivalEvent;
  readonly changed: (name: string) => ArrivalEvent;
  readonly refused: (name: string, code: RefusalCode) => ArrivalEvent;
  /** Writes, tells the catalog, and waits. */
  readonly put: (name: string, bytes: Uint8Array | string, folder?: WatchedFolder) => Promise<CatalogEntry>;
  readonly byName: (name: string, folder?: WatchedFolder) => CatalogEntry | undefined;
  readonly rename: (from: string, to: string) => void;
  readonly remove: (name: string) => void;
  /** Ends this catalog and starts another on the same store. */
  readonly restart: () => Promise<World>;
  readonly end: () => Promise<void>;
}

export interface WorldOptions {
  readonly kind?: "adapter" | "checkpoint";
  readonly wrap?: (reader: Reader) => Reader;
}

async function startIn(root: string, options: WorldOptions): Promise<World> {
  const kind = options.kind ?? "adapter";
  const folder: WatchedFolder = { key: "aaaaaaaa", path: join(root, "models"), kind };
  const other: WatchedFolder = { key: "bbbbbbbb", path: join(root, "others"), kind };
  let reads = 0;
  const real = createReader(join(root, "data", "catalog.json"));
  const counted: Reader = {
    ...real,
    content: async (files, placed, table) => {
      reads += files.length;
      return real.content(files, placed, table);
    },
  };
  const troubles: string[] = [];
  const catalog = createCatalog({
    storePath: null,
    reader: options.wrap?.(counted) ?? counted,
    onStoreTrouble: (text) => troubles.push(text),
  });
  const changes: CatalogChange[] = [];
  catalog.onChange((change) => changes.push(change));
  await catalog.open();
  const pathOf = (name: string, place: WatchedFolder) => join(place.path, ...name.split("/"));
  const placeOf = (name: string, place: WatchedFolder) => ({ folder: place, name, path: pathOf(name, place) });
  const stampAt = (path: string) => {
    const found = statSync(path, { bigint: true });
    return {
      sizeBytes: Number(found.size),
      mtimeNs: found.mtimeNs,
      ctimeNs: found.ctimeNs,
      inode: found.ino,
      device: found.dev,
      bornNs: found.birthtimeNs,
    };
  };
  const world: World = {
    root,
    folder,
    other,
    catalog,
    changes,
    troubles,
    headerReads: () => reads,
    write(name, bytes, place = folder) {
      const path = pathOf(name, place);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, bytes);
      return path;
    },
    settled: (name, place = folder, renamedFrom) => ({
      ...placeOf(name, place),
      type: "settled",
      stamp: stampAt(pathOf(name, place)),
      arrivedAtMs: 0,
      settledAtMs: 1,
      ...(renamedFrom === undefined ? {} : { renamedFrom: placeOf(renamedFrom, folder) }),
    }),
    gone: (name, place = folder) => ({ ...placeOf(name, place), type: "gone", atMs: 1 }),
    changed: (name) => ({ ...placeOf(name, folder), type: "changed", atMs: 1 }),
    refused: (name, code) => ({
      ...placeOf(name, folder),
      type: "refused",
      code,
      message: `refused: ${code}`,
      stamp: stampAt(pathOf(name, folder)),
      atMs: 1,
    }),
    async put(name, bytes, place = folder) {
      world.write(name, bytes, place);
      catalog.accept([world.settled(name, place)]);
      await catalog.idle();
      const entry = world.byName(name, place);
      if (entry === undefined) throw new Error(`${name} has no entry`);
      return entry;
    },
    byName: (name, place = folder) =>
      [...catalog.snapshot().entries.values()].find((entry) => entry.name === name && entry.folder === place.key),
    rename: (from, to) => renameSync(pathOf(from, folder), pathOf(to, folder)),
    remove: (name) => unlinkSync(pathOf(name, folder)),
    async restart() {
      await catalog.close();
      return startIn(root, options);
    },
    async end() {
      await catalog.close();
      rmSync(root, { recursive: true, force: true });
    },
  };
  return world;
}

export async function startWorld(options: WorldOptions = {}): Promise<World> {
  const root = realpathSync(mkdtempSync(join(tmpdir(), "refit-catalog-")));
  const world = await startIn(root, options);
  mkdirSync(world.folder.path);
  mkdirSync(world.other.path);
  return world;
}

export function savedFile(world: World): string {
  return join(world.root, "data", "catalog.json");
}

export function readSaved(world: World): string {
  return readFileSync(savedFile(world), "utf8");
}

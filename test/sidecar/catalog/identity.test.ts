import { createHash } from "node:crypto";
import { chmodSync, statSync, truncateSync, utimesSync, writeFileSync, openSync, writeSync, closeSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { contentKey } from "../../../sidecar/src/catalog/index.ts";
import { sampledHash } from "../../../sidecar/src/catalog/read/sampled-hash.ts";
import type { Reader } from "../../../sidecar/src/catalog/reader.ts";
import { lora, safetensors, startWorld, tinyUnet } from "./world.ts";
import type { World, WorldOptions } from "./world.ts";

const worlds: World[] = [];
async function world(options: WorldOptions = {}): Promise<World> {
  const started = await startWorld(options);
  worlds.push(started);
  return started;
}
afterEach(async () => {
  // One after the other: a world that was started again has the folder of the one before.
  for (const each of worlds.splice(0).reverse()) await each.end();
});

const sha = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const unet = (fill = 1) => safetensors(tinyUnet, fill);

describe("identity of an adapter", () => {
  it("is the full SHA-256, computed once however many ask, and shown in the entry", async () => {
    let hashes = 0;
    const { put, catalog, byName } = await world({
      wrap: (reader) => ({ ...reader, fullHash: async (path, signal) => ((hashes += 1), reader.fullHash(path, signal)) }),
    });
    const entry = await put("a.safetensors", lora());
    expect(entry.identity).toBeNull();
    const [first, second] = await Promise.all([catalog.identity(entry.id), catalog.identity(entry.id)]);
    expect(first).toEqual({ sha256: sha(lora()), proof: "full" });
    expect(second).toEqual(first);
    await catalog.idle();
    expect(byName("a.safetensors")?.identity).toEqual(first);
    await catalog.identity(entry.id);
    expect(hashes).toBe(1);
  });

  it("is forgotten when size, mtime, inode or change time move, and found again", async () => {
    const { put, catalog, settled, write, byName } = await world();
    const entry = await put("a.safetensors", lora());
    const before = await catalog.identity(entry.id);
    const path = write("a.safetensors", lora(7));
    utimesSync(path, new Date(1e12), new Date(1e12));
    catalog.accept([settled("a.safetensors")]);
    await catalog.idle();
    expect(byName("a.safetensors")?.identity).toBeNull();
    expect((await catalog.identity(entry.id)).sha256).toBe(sha(lora(7)));
    chmodSync(path, 0o600);
    catalog.accept([settled("a.safetensors")]);
    await catalog.idle();
    expect(byName("a.safetensors")?.identity).toBeNull();
    expect((await catalog.identity(entry.id)).sha256).not.toBe(before.sha256);
  });

  it("of a file that moves while it is hashed: CATALOG_FILE_CHANGED", async () => {
    const slow: { reader: Reader | null; during: () => void } = { reader: null, during: () => {} };
    const { put, write, catalog } = await world({
      wrap: (reader) => ({
        ...reader,
        fullHash: async (path) => {
          const hash = await reader.fullHash(path);
          slow.during();
          return hash;
        },
      }),
    });
    const entry = await put("a.safetensors", lora());
    slow.during = () => void write("a.safetensors", lora(9, 3));
    await expect(catalog.identity(entry.id)).rejects.toMatchObject({ code: "CATALOG_FILE_CHANGED" });
  });

  it("of an id that is not catalogued: CATALOG_ENTRY_UNKNOWN", async () => {
    const { catalog } = await world();
    await expect(catalog.identity("adapter:00000000000000000000")).rejects.toMatchObject({ code: "CATALOG_ENTRY_UNKNOWN" });
  });

  it("is given up when the catalog closes: CATALOG_CLOSING", async () => {
    const { put, catalog } = await world({
      wrap: (reader) => ({
        ...reader,
        fullHash: (_path, signal) =>
          new Promise((_resolve, reject) => signal?.addEventListener("abort", () => reject(signal.reason as Error))),
      }),
    });
    const entry = await put("a.safetensors", lora());
    const asked = catalog.identity(entry.id);
    const closed = catalog.close();
    await expect(asked).rejects.toMatchObject({ code: "CATALOG_CLOSING" });
    await closed;
  });
});

describe("identity of a checkpoint", () => {
  it("starts on a sampled hash and is confirmed in the background; the two count as the same content", async () => {
    const { put, catalog, byName, changes } = await world({ kind: "checkpoint" });
    const entry = await put("m.safetensors", unet());
    const sampled = await catalog.identity(entry.id);
    expect(sampled.proof).toBe("sampled");
    const full = await catalog.identity(entry.id, "full");
    await catalog.idle();
    expect(full).toEqual({ sha256: sha(unet()), proof: "full", sampled: sampled.sampled });
    expect(byName("m.safetensors")?.identity).toEqual(full);
    expect(contentKey(sampled)).toBe(contentKey(full));
    expect(changes.at(-1)?.changed).toEqual([entry.id]);
  });

  it("differs after a rewrite", async () => {
    const { put, catalog } = await world({ kind: "checkpoint" });
    const entry = await put("m.safetensors", unet());
    const before = await catalog.identity(entry.id);
    await put("m.safetensors", unet(2));
    const after = await catalog.identity(entry.id);
    expect(contentKey(before)).not.toBe(contentKey(after));
    expect((await catalog.identity(entry.id, "full")).sha256).toBe(sha(unet(2)));
  });

  it("of shards is one hash over theirs, whatever they are called", async () => {
    const { write, settled, catalog, byName } = await world({ kind: "checkpoint" });
    const names = Object.keys(tinyUnet);
    const part = (from: number, to: number) =>
      safetensors(Object.fromEntries(names.slice(from, to).map((name) => [name, tinyUnet[name] ?? []])));
    for (const stem of ["a", "b"]) {
      write(`${stem}-00001-of-00002.safetensors`, part(0, 4));
      write(`${stem}-00002-of-00002.safetensors`, part(4, 8));
      catalog.accept([settled(`${stem}-00001-of-00002.safetensors`), settled(`${stem}-00002-of-00002.safetensors`)]);
    }
    await catalog.idle();
    const [a, b] = [byName("a.safetensors"), byName("b.safetensors")];
    expect(a).toMatchObject({ family: "sd15", files: 2, problem: null });
    expect(await catalog.identity(a?.id ?? "", "full")).toEqual(await catalog.identity(b?.id ?? "", "full"));
  });
});

describe("sampledHash", () => {
  it("covers length, header, and 64 places of the data, the end among them", async () => {
    const { root } = await world();
    const path = join(root, "big.safetensors");
    const bytes = safetensors({ "x.weight": { dtype: "F32", shape: [1 << 20] } });
    writeFileSync(path, bytes);
    const first = await sampledHash(path);
    expect(await sampledHash(path)).toBe(first);
    const poke = (position: number) => {
      const file = openSync(path, "r+");
      writeSync(file, Buffer.from([0xee]), 0, 1, position);
      closeSync(file);
    };
    poke(bytes.length - 1);
    const end = await sampledHash(path);
    expect(end).not.toBe(first);
    poke(20);
    const header = await sampledHash(path);
    expect(header).not.toBe(end);
    truncateSync(path, statSync(path).size - 1);
    expect(await sampledHash(path)).not.toBe(header);
  });
});

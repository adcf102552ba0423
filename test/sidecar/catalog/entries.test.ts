import { afterEach, describe, expect, it } from "vitest";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Failure } from "../../../sidecar/src/failure/index.ts";
import { readContent } from "../../../sidecar/src/catalog/read/content.ts";
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

const unet = () =>
  safetensors(Object.fromEntries(Object.entries(tinyUnet).map(([name, shape]) => [`model.diffusion_model.${name}`, shape])));

describe("entries", () => {
  it("an adapter: kind, family, kinds, evidence, no path in its id", async () => {
    const { put } = await world();
    const entry = await put("sub folder/ä ❤.safetensors", lora());
    expect(entry).toMatchObject({
      kind: "adapter",
      name: "sub folder/ä ❤.safetensors",
      family: "sd15",
      kinds: ["lora"],
      tensors: 3,
      problem: null,
      identity: null,
      folder: "aaaaaaaa",
    });
    expect(entry.id).toMatch(/^adapter:[0-9a-f]{20}$/);
    expect(entry.evidence.join()).toContain("768");
  });

  it("a checkpoint: family, variant, structure, prefix, configuration", async () => {
    const { put } = await world({ kind: "checkpoint" });
    const entry = await put("tiny.safetensors", unet());
    expect(entry).toMatchObject({
      kind: "checkpoint",
      family: "sd15",
      variant: "custom",
      keyPrefix: "model.diffusion_model.",
      parameters: Object.keys(tinyUnet).length,
      dtypes: { F16: 8 },
      format: "checkpoint",
      files: 1,
      problem: null,
    });
    expect(entry.kind === "checkpoint" && entry.structure).toMatch(/^[0-9a-f]{64}$/);
  });

  it("ids: the same on every start, different for equal names in two folders and for names that differ in Unicode form or case", async () => {
    const first = await world();
    const names = ["e\u0301.safetensors", "\u00e9.safetensors", "A.safetensors", "a.safetensors"];
    const ids = new Map<string, string>();
    for (const name of names) ids.set(name, (await first.put(name, lora())).id);
    ids.set("other", (await first.put("a.safetensors", lora(), first.other)).id);
    // A disk that folds case or form holds fewer files; this one must hold them all for the test to say something.
    expect(new Set(ids.values()).size).toBe(5);
    const second = await first.restart();
    worlds.push(second);
    second.catalog.accept(names.map((name) => second.settled(name)));
    await second.catalog.idle();
    for (const name of names) expect(second.byName(name)?.id).toBe(ids.get(name));
  });

  it("a long path", async () => {
    const { put } = await world();
    const name = `${Array.from({ length: 8 }, (_, index) => `${"long folder name ".repeat(5).trim()}${index}`).join("/")}/${"n".repeat(200)}.safetensors`;
    expect(name.length).toBeGreaterThan(800);
    expect(await put(name, lora())).toMatchObject({ name, problem: null });
  });

  it("an adapter in a checkpoint folder is an adapter", async () => {
    const { put } = await world({ kind: "checkpoint" });
    expect((await put("x.safetensors", lora())).id).toMatch(/^adapter:/);
  });

  it("a file that turns from adapter to checkpoint changes its id in one step", async () => {
    const { put, changes } = await world();
    const before = await put("x.safetensors", lora());
    const after = await put("x.safetensors", unet());
    expect(changes.at(-1)).toMatchObject({ added: [after.id], removed: [before.id], changed: [] });
  });
});

describe("problems, never crashes", () => {
  it.each<readonly [string, () => Uint8Array | string, string]>([
    ["truncated", () => lora().subarray(0, 700), "CATALOG_METADATA_INCOMPLETE_BUFFER"],
    ["a header longer than the file", () => lora().subarray(0, 60), "CATALOG_INVALID_HEADER_LENGTH"],
    ["a renamed pickle", () => Buffer.from("80025d71002e", "hex"), "CATALOG_PICKLE_REFUSED"],
    ["a zipped pickle", () => Buffer.concat([Buffer.from("PK\u0003\u0004"), Buffer.alloc(600)]), "CATALOG_PICKLE_REFUSED"],
    ["a web page", () => "<!DOCTYPE html><html><body>404</body></html>", "CATALOG_NOT_SAFETENSORS"],
    ["a Git LFS pointer", () => "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "CATALOG_NOT_SAFETENSORS"],
    ["empty", () => "", "CATALOG_HEADER_TOO_SMALL"],
    ["no tensors of an adapter", () => safetensors({ emb_params: [2, 2] }), "CATALOG_NOT_AN_ADAPTER"],
    [
      "an adapter for another model",
      () =>
        safetensors({
          "lora_unet_double_layers_0_attn_w1q.lora_up.weight": [2, 2],
          "lora_unet_double_layers_0_attn_w1q.lora_down.weight": [2, 2],
        }),
      "CATALOG_UNSUPPORTED_MODEL",
    ],
  ])("%s", async (_what, bytes, code) => {
    const { put, catalog } = await world();
    const entry = await put("bad.safetensors", bytes());
    expect(entry.problem?.code).toBe(code);
    expect(entry.problem?.message).not.toContain("/");
    await expect(catalog.identity(entry.id)).rejects.toMatchObject({ code: "CATALOG_ENTRY_UNUSABLE" });
    expect(() => catalog.adapterFile(entry.id)).toThrow(Failure);
  });

  it("an unknown architecture: CATALOG_UNKNOWN_ARCHITECTURE", async () => {
    const { put, catalog } = await world({ kind: "checkpoint" });
    const entry = await put("vae.safetensors", safetensors({ "encoder.conv_in.weight": [2, 2] }));
    expect(entry.problem?.code).toBe("CATALOG_UNKNOWN_ARCHITECTURE");
    await expect(catalog.checkpointSource(entry.id)).rejects.toMatchObject({ code: "CATALOG_ENTRY_UNUSABLE" });
  });

  it("unreadable: CATALOG_UNREADABLE, and fine again when it can be read", async ({ skip }) => {
    if (process.platform === "win32" || process.getuid?.() === 0) skip("the user here may read everything");
    const { put, write, catalog, settled, byName } = await world();
    chmodSync(write("x.safetensors", lora()), 0);
    catalog.accept([settled("x.safetensors")]);
    await catalog.idle();
    expect(byName("x.safetensors")?.problem?.code).toBe("CATALOG_UNREADABLE");
    chmodSync(write("x.safetensors", lora()), 0o600);
    expect((await put("x.safetensors", lora())).problem).toBeNull();
  });

  it("unreadable by the reader's word: CATALOG_UNREADABLE is not remembered", async () => {
    let broken = true;
    const first = await world({
      wrap: (reader) => ({
        ...reader,
        content: (files, placed, table) =>
          broken
            ? readContent(files, placed, table, () => Promise.reject(Object.assign(new Error("no"), { code: "EIO" })))
            : reader.content(files, placed, table),
      }),
    });
    expect((await first.put("x.safetensors", lora())).problem?.code).toBe("CATALOG_UNREADABLE");
    broken = false;
    const second = await first.restart();
    worlds.push(second);
    second.catalog.accept([second.settled("x.safetensors")]);
    await second.catalog.idle();
    expect(second.byName("x.safetensors")?.problem).toBeNull();
  });

  it("vanished between event and reading: a problem, then gone", async () => {
    const { write, settled, remove, catalog, byName, gone } = await world();
    write("x.safetensors", lora());
    const event = settled("x.safetensors");
    remove("x.safetensors");
    catalog.accept([event]);
    await catalog.idle();
    expect(byName("x.safetensors")?.problem?.code).toBe("CATALOG_UNREADABLE");
    catalog.accept([gone("x.safetensors")]);
    await catalog.idle();
    expect(byName("x.safetensors")).toBeUndefined();
  });

  it("replaced between event and reading: CATALOG_FILE_CHANGING until the next event", async () => {
    const { write, settled, catalog, byName } = await world();
    write("x.safetensors", lora());
    const event = settled("x.safetensors");
    write("x.safetensors", lora(1, 3));
    catalog.accept([event]);
    await catalog.idle();
    expect(byName("x.safetensors")?.problem?.code).toBe("CATALOG_FILE_CHANGING");
    catalog.accept([settled("x.safetensors")]);
    await catalog.idle();
    expect(byName("x.safetensors")?.problem).toBeNull();
  });

  it("what arrivals refuses keeps its code, or gets the reader's more precise one", async () => {
    const { write, catalog, refused, byName } = await world();
    write("old.ckpt", "x");
    write("short.safetensors", lora().subarray(0, 700));
    write("pickle.safetensors", Buffer.concat([Buffer.from("PK\u0003\u0004"), Buffer.alloc(600)]));
    catalog.accept([
      refused("old.ckpt", "ARRIVALS_UNSUPPORTED_FORMAT"),
      refused("short.safetensors", "ARRIVALS_INCOMPLETE"),
      refused("pickle.safetensors", "ARRIVALS_NOT_SAFETENSORS"),
    ]);
    await catalog.idle();
    expect(byName("old.ckpt")?.problem?.code).toBe("ARRIVALS_UNSUPPORTED_FORMAT");
    expect(byName("short.safetensors")?.problem?.code).toBe("CATALOG_METADATA_INCOMPLETE_BUFFER");
    expect(byName("pickle.safetensors")?.problem?.code).toBe("CATALOG_PICKLE_REFUSED");
  });
});

describe("what happens to files", () => {
  it("being rewritten: CATALOG_FILE_CHANGING without identity, then the new content", async () => {
    const { put, catalog, changed, byName } = await world();
    const entry = await put("x.safetensors", lora());
    await catalog.identity(entry.id);
    catalog.accept([changed("x.safetensors")]);
    await catalog.idle();
    expect(byName("x.safetensors")).toMatchObject({ problem: { code: "CATALOG_FILE_CHANGING" }, identity: null });
    expect(await put("x.safetensors", lora(2))).toMatchObject({ problem: null, identity: null });
  });

  it("a rename is one step, reads nothing and keeps the identity", async () => {
    const { put, catalog, rename, gone, settled, headerReads, changes, byName } = await world();
    const before = await put("a.safetensors", lora());
    const identity = await catalog.identity(before.id);
    await catalog.idle();
    const reads = headerReads();
    const steps = changes.length;
    rename("a.safetensors", "b@0.5.safetensors");
    catalog.accept([gone("a.safetensors"), settled("b@0.5.safetensors", undefined, "a.safetensors")]);
    await catalog.idle();
    const after = byName("b@0.5.safetensors");
    expect(after).toMatchObject({ identity, problem: null, family: "sd15" });
    expect(headerReads()).toBe(reads);
    expect(changes.slice(steps)).toMatchObject([{ added: [after?.id], removed: [before.id] }]);
  });

  it("an atomic replacement shows the old content or the new one, never neither", async () => {
    const { put, changes, byName } = await world();
    const before = await put("a.safetensors", lora());
    const seen = changes.length;
    await put("a.safetensors", lora(1, 5));
    expect(changes.slice(seen)).toMatchObject([{ changed: [before.id], added: [], removed: [] }]);
    expect(byName("a.safetensors")?.problem).toBeNull();
  });

  it("a folder that is lost keeps its entries with CATALOG_FOLDER_LOST, and they come back unread", async () => {
    const { put, catalog, folder, byName, headerReads } = await world();
    const entry = await put("a.safetensors", lora());
    catalog.accept([{ type: "lost", folder, code: "EIO", atMs: 1 }]);
    await catalog.idle();
    expect(byName("a.safetensors")).toMatchObject({ id: entry.id, problem: { code: "CATALOG_FOLDER_LOST" } });
    const reads = headerReads();
    catalog.accept([{ type: "scanned", folder, unreadable: [], atMs: 2 }]);
    await catalog.idle();
    expect(byName("a.safetensors")).toMatchObject({ id: entry.id, problem: null });
    expect(headerReads()).toBe(reads);
  });

  it("a dropped folder takes its entries along, the other's stay", async () => {
    const { put, catalog, folder, other } = await world();
    await put("a.safetensors", lora());
    await put("b.safetensors", lora(), other);
    catalog.accept([{ type: "dropped", folder, atMs: 1 }]);
    await catalog.idle();
    expect([...catalog.snapshot().entries.values()].map((entry) => entry.name)).toEqual(["b.safetensors"]);
  });

  it("snapshots are immutable and their generation grows, across restarts too", async () => {
    const first = await world();
    await first.put("a.safetensors", lora());
    const snapshot = first.catalog.snapshot();
    await first.put("b.safetensors", lora());
    expect(snapshot.entries.size).toBe(1);
    expect(first.catalog.snapshot().generation).toBeGreaterThan(snapshot.generation);
    const last = first.catalog.snapshot().generation;
    const second = await first.restart();
    worlds.push(second);
    second.catalog.accept([second.settled("a.safetensors")]);
    await second.catalog.idle();
    expect(second.catalog.snapshot().generation).toBeGreaterThan(last);
  });

  it("a listener hears of 500 files in far fewer steps", async () => {
    const { write, settled, catalog, changes } = await world();
    for (let index = 0; index < 500; index += 1) write(`f${index}.safetensors`, lora());
    catalog.accept(Array.from({ length: 500 }, (_, index) => settled(`f${index}.safetensors`)));
    await catalog.idle();
    expect(catalog.snapshot().entries.size).toBe(500);
    expect(changes.length).toBeLessThan(100);
    expect(changes.flatMap((change) => change.added)).toHaveLength(500);
  });
});

describe("find", () => {
  it("takes an id, or a name that one entry has in any Unicode form", async () => {
    const { put, catalog, other } = await world();
    const entry = await put("e\u0301.safetensors", lora());
    expect(catalog.find("adapter", entry.id)).toBe(entry);
    expect(catalog.find("adapter", "\u00e9.safetensors").id).toBe(entry.id);
    await put("\u00e9.safetensors", lora(), other);
    expect(() => catalog.find("adapter", "\u00e9.safetensors")).toThrow(expect.objectContaining({ code: "CATALOG_NAME_AMBIGUOUS" }));
    expect(() => catalog.find("checkpoint", "\u00e9.safetensors")).toThrow(expect.objectContaining({ code: "CATALOG_ENTRY_UNKNOWN" }));
    expect(() => catalog.entry("../../etc/passwd")).toThrow(expect.objectContaining({ code: "CATALOG_ENTRY_UNKNOWN" }));
  });
});

describe("pushed adapters", () => {
  it("are adopted with their hash and forgotten on request", async () => {
    const { catalog, root } = await world();
    const path = join(root, "pushed.safetensors");
    writeFileSync(path, lora());
    const entry = await catalog.adopt({ path, sha256: "0".repeat(64), name: "from memory" });
    expect(entry).toMatchObject({ folder: null, name: "from memory", identity: { sha256: "0".repeat(64), proof: "full" }, family: "sd15" });
    expect(await catalog.adopt({ path, sha256: "0".repeat(64), name: "again" })).toBe(entry);
    expect(await catalog.identity(entry.id)).toMatchObject({ proof: "full" });
    expect(catalog.adapterFile(entry.id).path).toBe(path);
    catalog.forget(entry.id);
    await catalog.idle();
    expect(() => catalog.entry(entry.id)).toThrow(Failure);
  });

  it("are in the snapshot as soon as they are adopted, in the middle of a burst too", async () => {
    const { catalog, root } = await world();
    for (const digit of ["2", "3"]) {
      const path = join(root, `pushed-${digit}.safetensors`);
      writeFileSync(path, lora());
      const entry = await catalog.adopt({ path, sha256: digit.repeat(64), name: digit });
      expect(catalog.snapshot().entries.get(entry.id)).toBe(entry);
    }
  });

  it("that are no adapter are refused: CATALOG_ENTRY_UNUSABLE; without a file: CATALOG_FILE_CHANGED", async () => {
    const { catalog, root } = await world();
    const path = join(root, "pushed.safetensors");
    await expect(catalog.adopt({ path, sha256: "1".repeat(64), name: "x" })).rejects.toMatchObject({ code: "CATALOG_FILE_CHANGED" });
    writeFileSync(path, unet());
    await expect(catalog.adopt({ path, sha256: "1".repeat(64), name: "x" })).rejects.toMatchObject({ code: "CATALOG_ENTRY_UNUSABLE" });
  });
});

import { spawn } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { mkdtemp, readFile, readdir, rm, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { entryName, exportBundle, importBundle, openStore, readKey } from "../../../sidecar/src/store/index.ts";
import type { EngineFinger, EngineKey, Store } from "../../../sidecar/src/store/index.ts";

const key: EngineKey = {
  structure: "a".repeat(64),
  precision: "fp16",
  profile: "auto",
  host: "torch",
  library: "torch 2.11",
  capability: "sm90",
  driverBranch: "580",
};
const finger: EngineFinger = { libraryVersion: "2.11.0+cu130", driver: "580.65", device: "NVIDIA H100" };
let folder: string;
let store: Store;

const open = (overrides: Partial<Parameters<typeof openStore>[0]> = {}) =>
  openStore({ folder, writable: true, maxBytes: 1000, ...overrides });

async function put(into: Store, changed: Partial<EngineKey> = {}, bytes = 300): Promise<string> {
  const staging = await into.stage();
  await writeFile(join(staging.folder, "engine.bin"), Buffer.alloc(bytes, 7));
  await writeFile(join(staging.folder, "refit-map.json"), "[]");
  return (await staging.publish({ ...key, ...changed }, finger)).entry;
}

const age = (entry: string, hours: number) =>
  utimes(join(folder, entry, "manifest.json"), new Date(Date.now() - hours * 3600_000), new Date(Date.now() - hours * 3600_000));

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "refit-store-"));
  store = await open();
});

describe("openStore", () => {
  it("finds what was published, exact or with a finer difference", async () => {
    const entry = await put(store);
    expect(await store.find(key, finger)).toMatchObject({ found: "hit", exact: true, entry });
    expect(await store.find(key, { ...finger, driver: "580.82" })).toMatchObject({ found: "hit", exact: false });
  });

  it.each(["structure", "precision", "profile", "host", "library", "capability", "driverBranch"] as const)(
    "misses when %s differs",
    async (field) => {
      await put(store);
      expect(await store.find({ ...key, [field]: "other" }, finger)).toEqual({ found: "miss" });
    },
  );

  it("moves a truncated, bit-flipped or half-listed entry away and says so (STORE_DAMAGED)", async () => {
    const breakers = [
      (path: string) => truncate(join(path, "engine.bin"), 10),
      async (path: string) => {
        const bytes = await readFile(join(path, "engine.bin"));
        bytes[100]! ^= 1;
        await writeFile(join(path, "engine.bin"), bytes);
      },
      (path: string) => writeFile(join(path, "manifest.json"), "{"),
      async (path: string) =>
        writeFile(
          join(path, "manifest.json"),
          (await readFile(join(path, "manifest.json"), "utf8")).replace("engine.bin", "../../engine.bin"),
        ),
      async (path: string) =>
        writeFile(join(path, "manifest.json"), (await readFile(join(path, "manifest.json"), "utf8")).replace("sm90", "sm89")),
    ];
    for (const spoil of breakers) {
      const entry = await put(store);
      await spoil(join(folder, entry));
      expect(await store.find(key, finger)).toMatchObject({ found: "damaged", problem: { code: "STORE_DAMAGED" } });
      expect(await store.find(key, finger)).toEqual({ found: "miss" });
    }
  });

  it("keeps the first of two equal engines that two sidecars publish, and replaces a damaged one", async () => {
    const other = await open();
    const entry = await put(store);
    expect(await put(other)).toBe(entry);
    await truncate(join(folder, entry, "engine.bin"), 1);
    await put(other);
    expect(await store.find(key, finger)).toMatchObject({ found: "hit" });
    expect((await readdir(folder)).filter((name) => !/^[0-9a-f]{64}$/.test(name))).toEqual([]);
  });

  it("prunes the least recently used, but nothing pinned, held or just used", async () => {
    const entries = [];
    for (const [index, structure] of ["1", "2", "3", "4"].entries()) {
      const entry = await put(store, { structure });
      await age(entry, 10 - index);
      entries.push(entry);
    }
    await store.pin(entries[0]!, true);
    const release = store.hold(entries[1]!);
    expect((await store.prune(600)).map((info) => info.entry)).toEqual([entries[2], entries[3]]);
    release();
    expect((await store.prune(400)).map((info) => info.entry)).toEqual([entries[1]]);
    await store.pin(entries[0]!, false);
    await store.find({ ...key, structure: "1" }, finger);
    expect(await store.prune(0)).toEqual([]);
  });

  it("names an entry as the Python hosts do", () => {
    // test/python/hosts/refit_host/test_engine_store.py checks the same text.
    expect(entryName(key)).toBe("8a117f8ef534355b30fd9a82c243633084fbf84bd968c88c3e5256b764fb8766");
  });

  it("prunes what a clock that was years ahead has touched", async () => {
    const entry = await put(store);
    await age(entry, -10 * 365 * 24);
    expect((await store.prune(0)).map((info) => info.entry)).toEqual([entry]);
  });

  it("reads a read-only store and never writes to it (STORE_READ_ONLY)", async () => {
    await put(store);
    const shared = await open({ writable: false });
    expect(await shared.find(key, finger)).toMatchObject({ found: "hit" });
    await expect(shared.stage()).rejects.toMatchObject({ code: "STORE_READ_ONLY" });
    await expect(shared.prune()).rejects.toMatchObject({ code: "STORE_READ_ONLY" });
  });

  it("says that an engine could not be kept, and leaves nothing behind (STORE_WRITE)", async () => {
    const staging = await store.stage();
    await writeFile(join(staging.folder, "engine.bin"), "x");
    await rm(staging.folder, { recursive: true });
    await expect(staging.publish(key, finger)).rejects.toMatchObject({ code: "STORE_WRITE" });
    expect(await readdir(folder)).toEqual([]);
  });

  it("refuses names that are not plain (STORE_FILES)", async () => {
    const staging = await store.stage();
    await writeFile(join(staging.folder, ".hidden"), "x");
    await expect(staging.publish(key, finger)).rejects.toMatchObject({ code: "STORE_FILES" });
  });

  it("verifies by hand and names what is missing (STORE_MISSING)", async () => {
    const entry = await put(store);
    expect(await store.verify(entry)).toBeNull();
    expect(await store.verify("0".repeat(64))).toMatchObject({ code: "STORE_MISSING" });
  });

  it("says that a store cannot be read (STORE_UNREADABLE)", async () => {
    await writeFile(join(folder, entryName(key)), "a file where a folder should be");
    await expect(store.find(key, finger)).rejects.toMatchObject({ code: "STORE_UNREADABLE" });
  });

  it("is whole or absent after kill -9 at random moments of publishing", async () => {
    const script = `
      import { writeFile } from "node:fs/promises"; import { join } from "node:path";
      const { openStore } = await import(${JSON.stringify(new URL("../../../sidecar/dist/src/store/index.js", import.meta.url).href)});
      const store = await openStore({ folder: ${JSON.stringify(folder)}, writable: true, maxBytes: 1e9 });
      console.log("ready");
      for (let i = 0; ; i++) {
        const staging = await store.stage();
        await writeFile(join(staging.folder, "engine.bin"), Buffer.alloc(200000, i & 255));
        await staging.publish({ ...${JSON.stringify(key)}, structure: String(i % 5) }, ${JSON.stringify(finger)});
        await store.remove((await store.list())[0].entry);
      }`;
    for (let round = 0; round < 8; round += 1) {
      const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
      await new Promise((resolve) => child.stdout.once("data", resolve));
      await new Promise((resolve) => setTimeout(resolve, 5 + round * 7));
      child.kill("SIGKILL");
      await new Promise((resolve) => child.once("exit", resolve));
      for (const info of await store.list()) expect(await store.verify(info.entry)).toBeNull();
    }
  });
});

describe("bundles", () => {
  const maker = generateKeyPairSync("ed25519");
  const stranger = generateKeyPairSync("ed25519");
  const accept = () => null;

  async function bundle(): Promise<string> {
    await put(store);
    const found = await store.find(key, finger);
    if (found.found !== "hit") throw new Error("not found");
    const path = join(folder, "engine.refit");
    await exportBundle(found.folder, found.manifest, maker.privateKey, path);
    return path;
  }

  it("moves an engine to another store when its signer is trusted", async () => {
    const path = await bundle();
    const other = await openStore({ folder: await mkdtemp(join(tmpdir(), "refit-store-")), writable: true, maxBytes: 1e9 });
    await importBundle(other, path, [stranger.publicKey, maker.publicKey], accept);
    expect(await other.find(key, finger)).toMatchObject({
      found: "hit",
      exact: true,
      manifest: { origin: expect.stringMatching(/^[0-9a-f]{64}$/) as string },
    });
  });

  it("refuses a signer that is not trusted (BUNDLE_UNTRUSTED) and an unfit engine (BUNDLE_UNFIT)", async () => {
    const path = await bundle();
    await expect(importBundle(store, path, [stranger.publicKey], accept)).rejects.toMatchObject({ code: "BUNDLE_UNTRUSTED" });
    await expect(importBundle(store, path, [], accept)).rejects.toMatchObject({ code: "BUNDLE_UNTRUSTED" });
    await expect(importBundle(store, path, [maker.publicKey], () => "made for sm90, this is sm89")).rejects.toMatchObject({
      code: "BUNDLE_UNFIT",
    });
  });

  it("refuses every single flipped byte and every cut, and leaves the store as it was", async () => {
    const path = await bundle();
    const whole = await readFile(path);
    const before = (await readdir(folder)).length;
    for (let position = 0; position < whole.length; position += 7) {
      const bytes = Buffer.from(whole);
      bytes[position]! ^= 0x40;
      await writeFile(join(folder, "engine.refit"), bytes);
      await expect(importBundle(store, path, [maker.publicKey], accept), `byte ${position}`).rejects.toMatchObject({
        code: expect.stringMatching(/^BUNDLE_/) as string,
      });
    }
    for (const length of [0, 5, 11, 200, whole.length - 1]) {
      await writeFile(join(folder, "engine.refit"), whole.subarray(0, length));
      await expect(importBundle(store, path, [maker.publicKey], accept), `cut at ${length}`).rejects.toMatchObject({
        code: "BUNDLE_DAMAGED",
      });
    }
    expect((await readdir(folder)).length).toBe(before);
  });

  it("takes Ed25519 keys only (BUNDLE_KEY)", () => {
    const pem = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    expect(() => readKey(pem, "private")).toThrow(expect.objectContaining({ code: "BUNDLE_KEY" }));
    expect(() => readKey("no key", "public")).toThrow(expect.objectContaining({ code: "BUNDLE_KEY" }));
    expect(readKey(maker.privateKey.export({ type: "pkcs8", format: "pem" }).toString(), "private").type).toBe("private");
  });
});

import { chmodSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { lora, readSaved, savedFile, startWorld } from "./world.ts";
import type { World, WorldOptions } from "./world.ts";

const worlds: World[] = [];
async function world(options: WorldOptions = {}): Promise<World> {
  const started = await startWorld(options);
  worlds.push(started);
  return started;
}
async function again(before: World): Promise<World> {
  const started = await before.restart();
  worlds.push(started);
  return started;
}
afterEach(async () => {
  for (const each of worlds.splice(0).reverse()) await each.end();
});

describe("the saved catalog", () => {
  it("spares a restart every header of an unchanged file, keeps identities, and reads changed ones", async () => {
    const first = await world();
    const entry = await first.put("a.safetensors", lora());
    await first.put("b.safetensors", lora());
    await first.put("bad.safetensors", "not one");
    const identity = await first.catalog.identity(entry.id);
    const second = await again(first);
    second.write("b.safetensors", lora(1, 4));
    second.catalog.accept(["a.safetensors", "b.safetensors", "bad.safetensors"].map((name) => second.settled(name)));
    await second.catalog.idle();
    expect(second.headerReads()).toBe(1);
    expect(second.byName("a.safetensors")).toEqual({ ...entry, identity });
    expect(second.byName("bad.safetensors")?.problem).not.toBeNull();
    expect(second.troubles).toEqual([]);
  });

  it("holds no path, and is its owner's alone", async () => {
    const first = await world();
    await first.put("sub/a.safetensors", lora());
    await first.catalog.close();
    expect(readSaved(first)).not.toContain(first.root);
    expect(readSaved(first)).toContain("sub/a.safetensors");
    expect(readdirSync(dirname(savedFile(first)))).toEqual(["catalog.json"]);
  });

  it.each<readonly [string, (text: string) => string, string]>([
    ["a flipped bit", (text) => text.replace(/sd15/, "sd16"), "its checksum is wrong"],
    ["a lost end", (text) => text.slice(0, -100), "its checksum is wrong"],
    ["another format", (text) => text.replace("refit-catalog-1", "refit-catalog-9"), "it has another format"],
    ["nothing", () => "", "it has another format"],
  ])("with %s is rebuilt, never believed", async (_what, damage, reason) => {
    const first = await world();
    await first.put("a.safetensors", lora());
    await first.catalog.close();
    writeFileSync(savedFile(first), damage(readSaved(first)));
    const second = await again(first);
    second.catalog.accept([second.settled("a.safetensors")]);
    await second.catalog.idle();
    expect(second.troubles.join()).toContain(reason);
    expect(second.byName("a.safetensors")).toMatchObject({ family: "sd15", problem: null });
    expect(second.headerReads()).toBe(1);
    const third = await again(second);
    expect(third.troubles).toEqual([]);
  });

  it("of another shape under a right checksum is rebuilt", async () => {
    const first = await world({
      wrap: (reader) => ({ ...reader, load: async () => ({ text: '{"generation":1,"units":[["k",{"signature":1}]]}', reason: null }) }),
    });
    expect(first.troubles.join()).toContain("it does not hold a catalog");
  });

  it("keeps what it knows of a folder that is away in this run, and forgets files that are gone from one that was scanned", async () => {
    const first = await world();
    await first.put("a.safetensors", lora());
    await first.put("b.safetensors", lora(), first.other);
    const second = await again(first);
    second.catalog.accept([
      { type: "scanned", folder: second.folder, unreadable: [], atMs: 1 },
      { type: "lost", folder: second.other, code: "ENOENT", atMs: 1 },
    ]);
    await second.catalog.idle();
    await second.put("c.safetensors", lora());
    const third = await again(second);
    expect(readSaved(third)).not.toContain("aaaaaaaa/a.safetensors");
    third.catalog.accept([third.settled("b.safetensors", third.other)]);
    await third.catalog.idle();
    expect(third.headerReads()).toBe(0);
  });

  it("that cannot be written is told, and the catalog goes on", async () => {
    const first = await world({
      wrap: (reader) => ({ ...reader, save: async () => Promise.reject(Object.assign(new Error("full"), { code: "ENOSPC" })) }),
    });
    await first.put("a.safetensors", lora());
    await first.catalog.close();
    expect(first.troubles.join()).toContain("ENOSPC");
  });

  it("on a read-only disk leaves no temporary file", async ({ skip }) => {
    if (process.platform === "win32" || process.getuid?.() === 0) skip("the user here may write everywhere");
    const first = await world();
    await first.put("a.safetensors", lora());
    mkdirSync(dirname(savedFile(first)), { recursive: true });
    chmodSync(dirname(savedFile(first)), 0o500);
    await first.catalog.close();
    expect(first.troubles.join()).toContain("EACCES");
    chmodSync(dirname(savedFile(first)), 0o700);
    expect(readdirSync(dirname(savedFile(first)))).toEqual([]);
  });

  it("survives its folder being deleted while running", async () => {
    const first = await world();
    await first.put("a.safetensors", lora());
    rmSync(dirname(savedFile(first)), { recursive: true, force: true });
    await first.put("b.safetensors", lora());
    const second = await again(first);
    second.catalog.accept(["a.safetensors", "b.safetensors"].map((name) => second.settled(name)));
    await second.catalog.idle();
    expect(second.headerReads()).toBe(0);
  });
});

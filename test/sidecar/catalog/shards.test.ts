import { afterEach, describe, expect, it } from "vitest";
import { safetensors, startWorld, tinyUnet } from "./world.ts";
import type { World } from "./world.ts";

const worlds: World[] = [];
async function world(): Promise<World> {
  const started = await startWorld({ kind: "checkpoint" });
  worlds.push(started);
  return started;
}
afterEach(async () => {
  // One after the other: a world that was started again has the folder of the one before.
  for (const each of worlds.splice(0).reverse()) await each.end();
});

const names = Object.keys(tinyUnet);
const part = (from: number, to: number) =>
  safetensors(Object.fromEntries(names.slice(from, to).map((name) => [name, tinyUnet[name] ?? []])));
const first = "unet/m-00001-of-00002.safetensors";
const second = "unet/m-00002-of-00002.safetensors";
const index = "unet/m.safetensors.index.json";
const whole = "unet/m.safetensors";

const table = (files: Readonly<Record<string, string>>) => JSON.stringify({ metadata: { total_size: 1 }, weight_map: files });
const tableOf = (a: string, b: string) => table(Object.fromEntries(names.map((name, position) => [name, position < 4 ? a : b])));

describe("a sharded checkpoint", () => {
  it("is one entry under the name of the whole, with or without a table", async () => {
    for (const withTable of [false, true]) {
      const { write, settled, catalog } = await world();
      write(first, part(0, 4));
      write(second, part(4, 8));
      const events = [settled(first), settled(second)];
      if (withTable) {
        write(index, tableOf("m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"));
        events.unshift(settled(index));
      }
      catalog.accept(events);
      await catalog.idle();
      const entries = [...catalog.snapshot().entries.values()];
      expect(entries).toMatchObject([{ name: whole, files: 2, family: "sd15", problem: null, parameters: 8 }]);
      const source = await catalog.checkpointSource(entries[0]?.id ?? "");
      expect(source.files.map((file) => file.path.replaceAll("\\", "/").slice(-29))).toEqual(
        [first, second].map((name) => name.slice(-29)),
      );
      expect(source.parameters[names[0] ?? ""]).toMatchObject({ pieces: [{ file: 0, key: names[0] }] });
      expect(source.parameters[names[7] ?? ""]).toMatchObject({ pieces: [{ file: 1, key: names[7] }] });
    }
  });

  it("with a shard missing: CATALOG_SHARD_MISSING until it comes", async () => {
    const { write, settled, catalog, byName } = await world();
    write(second, part(4, 8));
    catalog.accept([settled(second)]);
    await catalog.idle();
    expect(byName(whole)).toMatchObject({ problem: { code: "CATALOG_SHARD_MISSING" } });
    expect(byName(whole)?.problem?.message).toContain("m-00001-of-00002");
    write(first, part(0, 4));
    catalog.accept([settled(first)]);
    await catalog.idle();
    expect(byName(whole)).toMatchObject({ problem: null, files: 2 });
  });

  it("whose shards hold one tensor twice: CATALOG_SHARD_OVERLAP", async () => {
    const { write, settled, catalog, byName } = await world();
    write(first, part(0, 5));
    write(second, part(4, 8));
    catalog.accept([settled(first), settled(second)]);
    await catalog.idle();
    expect(byName(whole)?.problem?.code).toBe("CATALOG_SHARD_OVERLAP");
  });

  it("takes files of any name that its table lists, and gives them back when the table goes", async () => {
    const { write, settled, gone, remove, catalog } = await world();
    write("unet/front.safetensors", part(0, 4));
    write("unet/back.safetensors", part(4, 8));
    catalog.accept([settled("unet/front.safetensors"), settled("unet/back.safetensors")]);
    await catalog.idle();
    expect(catalog.snapshot().entries.size).toBe(2);
    write(index, tableOf("front.safetensors", "back.safetensors"));
    catalog.accept([settled(index)]);
    await catalog.idle();
    expect([...catalog.snapshot().entries.values()]).toMatchObject([{ name: whole, files: 2, problem: null }]);
    remove(index);
    catalog.accept([gone(index)]);
    await catalog.idle();
    expect([...catalog.snapshot().entries.values()].map((entry) => entry.name).sort()).toEqual([
      "unet/back.safetensors",
      "unet/front.safetensors",
    ]);
  });

  it.each([
    "../secret.safetensors",
    "/etc/x.safetensors",
    "a/b.safetensors",
    "C:\\x.safetensors",
    "..\\x.safetensors",
    "x.ckpt",
    ".hidden.safetensors",
  ])("whose table names %s: CATALOG_SHARD_NAME_REFUSED", async (name) => {
    const { write, settled, catalog, byName } = await world();
    write(index, table({ a: name }));
    catalog.accept([settled(index)]);
    await catalog.idle();
    expect(byName(whole)?.problem?.code).toBe("CATALOG_SHARD_NAME_REFUSED");
  });

  it.each(["{", "[]", '{"weight_map": []}', '{"weight_map": {}}', "null"])("whose table is %s: CATALOG_INDEX_INVALID", async (text) => {
    const { write, settled, catalog, byName } = await world();
    write(index, text);
    catalog.accept([settled(index)]);
    await catalog.idle();
    expect(byName(whole)?.problem?.code).toBe("CATALOG_INDEX_INVALID");
  });

  it("that turns out to be an adapter: CATALOG_ADAPTER_SHARDED", async () => {
    const { write, settled, catalog, byName } = await world();
    const stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k";
    write(first, safetensors({ [`${stem}.lora_down.weight`]: [2, 768] }));
    write(second, safetensors({ [`${stem}.lora_up.weight`]: [4, 2] }));
    catalog.accept([settled(first), settled(second)]);
    await catalog.idle();
    expect(byName(whole)?.problem?.code).toBe("CATALOG_ADAPTER_SHARDED");
  });

  it("whose table arrivals call incomplete gets the table reader's own code", async () => {
    const { write, refused, catalog, byName } = await world();
    write(index, "{");
    catalog.accept([refused(index, "ARRIVALS_INCOMPLETE")]);
    await catalog.idle();
    expect(byName(whole)?.problem?.code).toBe("CATALOG_INDEX_INVALID");
  });

  it("is remembered over a restart without reading a header", async () => {
    const before = await world();
    before.write(first, part(0, 4));
    before.write(second, part(4, 8));
    before.catalog.accept([before.settled(first), before.settled(second)]);
    await before.catalog.idle();
    const after = await before.restart();
    worlds.push(after);
    after.catalog.accept([after.settled(first), after.settled(second)]);
    await after.catalog.idle();
    expect(after.byName(whole)).toEqual(before.byName(whole));
    expect(after.headerReads()).toBe(0);
  });

  it("losing its last file is gone", async () => {
    const { write, settled, gone, catalog } = await world();
    write(first, part(0, 4));
    write(second, part(4, 8));
    catalog.accept([settled(first), settled(second)]);
    await catalog.idle();
    catalog.accept([gone(first), gone(second)]);
    await catalog.idle();
    expect(catalog.snapshot().entries.size).toBe(0);
  });
});

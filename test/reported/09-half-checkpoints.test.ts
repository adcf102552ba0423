import { copyFileSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { native, writeSafetensors } from "@refit-sidecar/native";
import { beforeAll, describe, expect, it } from "vitest";
import { bake, openBase } from "../../sidecar/src/bake/index.ts";
import { parseJob } from "../../sidecar/src/cli/merge.ts";
import { explain } from "../../sidecar/src/explain/index.ts";
import { demo, newFolder } from "./support.ts";

const folder = newFolder();
const at = (name: string) => join(folder, name);
const lora = join(demo, "loras", "small.safetensors");
const base = join(demo, "demo-unet.safetensors");
const shard = (index: number) => `m-0000${index}-of-00002.safetensors`;
let keys: string[] = [];
const half = () => Math.floor(keys.length / 2);

async function writeShards(): Promise<void> {
  const file = await native.openTensorFile(base);
  keys = [...file.header.entries.keys()];
  for (const [index, part] of [keys.slice(0, half()), keys.slice(half())].entries()) {
    await writeSafetensors(
      at(shard(index + 1)),
      part.map((name) => ({
        name,
        dtype: file.header.entries.get(name)?.dtype ?? "F32",
        shape: file.header.entries.get(name)?.shape ?? [],
        data: () => file.read(name),
      })),
    );
  }
  await file.close();
}

const table = (change: (map: Record<string, string>) => void = () => undefined): void => {
  const map = Object.fromEntries(keys.map((key, index) => [key, shard(index < half() ? 1 : 2)]));
  change(map);
  writeFileSync(at("m.safetensors.index.json"), JSON.stringify({ metadata: {}, weight_map: map }));
};

beforeAll(writeShards);

/** Whoever reads a checkpoint by path. */
const readers = {
  merge: (path: string) => openBase(path, null).then(({ close }) => close()),
  inspect: (path: string) => explain(path, null),
  "inspect --base": (path: string) => explain(lora, path),
};

it.skipIf(process.platform === "win32")("a table that cannot be opened is refused, although shards of its name lie beside it", async () => {
  const path = at("loop-table.safetensors.index.json");
  symlinkSync(path, path);
  for (const index of [1, 2]) copyFileSync(at(shard(index)), at(shard(index).replace("m-", "loop-table-")));
  for (const read of Object.values(readers)) await expect(read(path)).rejects.toMatchObject({ code: "UNREADABLE" });
});

it("a table of torch.save's shards is named for what it is", async () => {
  writeFileSync(at("bin.safetensors.index.json"), JSON.stringify({ weight_map: { a: "model-00001-of-00002.bin" } }));
  await expect(readers.merge(at("bin.safetensors.index.json"))).rejects.toMatchObject({
    code: "CATALOG_SHARD_NAME_REFUSED",
    message: expect.stringContaining("torch.save") as string,
  });
});

describe("half a checkpoint", () => {
  it("is refused by name wherever one is read: one shard of several, a missing shard, a table that names what is not there", async () => {
    for (const read of Object.values(readers)) {
      await expect(read(at(shard(1)))).rejects.toMatchObject({
        code: "CATALOG_SHARD_ALONE",
        message: expect.stringContaining("m.safetensors, the name of the whole") as string,
      });
      table();
      await expect(read(at(shard(1)))).rejects.toMatchObject({
        code: "CATALOG_SHARD_ALONE",
        message: expect.stringContaining("m.safetensors.index.json") as string,
      });
      table((map) => (map["more"] = "m-extra.safetensors"));
      await expect(read(at("m.safetensors.index.json"))).rejects.toMatchObject({
        code: "CATALOG_SHARD_MISSING",
        message: expect.stringContaining("m-extra.safetensors") as string,
      });
      table((map) => (map["more"] = shard(2)));
      await expect(read(at("m.safetensors.index.json"))).rejects.toMatchObject({
        code: "CATALOG_SHARD_INCOMPLETE",
        message: expect.stringContaining("more") as string,
      });
      rmSync(at(shard(2)));
      table((map) => {
        for (const [key, file] of Object.entries(map)) if (file === shard(2)) delete map[key];
      });
      await expect(read(at("m.safetensors.index.json"))).rejects.toMatchObject({
        code: "CATALOG_SHARD_MISSING",
        message: expect.stringContaining(shard(2)) as string,
      });
      rmSync(at("m.safetensors.index.json"));
      await expect(read(at("m.safetensors"))).rejects.toMatchObject({ code: "CATALOG_SHARD_MISSING" });
      await writeShards();
    }
  });

  it("made whole by its table or its name is read in full", async () => {
    table();
    for (const path of ["m.safetensors.index.json", "m.safetensors"]) {
      const whole = await openBase(at(path), null);
      expect(whole.files).toHaveLength(2);
      expect(whole.parameters.size).toBe(684);
      await whole.close();
    }
    const explained = await explain(at("m.safetensors.index.json"), null);
    expect(explained).toMatchObject({ kind: "checkpoint", files: 2, summary: { family: "sd15", parameters: 684, problem: null } });
    for (const [from, out] of [
      [at("m.safetensors.index.json"), "whole.safetensors"],
      [base, "single.safetensors"],
    ] as const)
      await bake(parseJob({ base: from, adapter: [lora], out: at(out) }));
    expect(
      readFileSync(at("whole.safetensors"))
        .subarray(-4096)
        .equals(readFileSync(at("single.safetensors")).subarray(-4096)),
    ).toBe(true);
  });
});

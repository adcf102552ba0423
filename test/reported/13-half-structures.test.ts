// Half a checkpoint whose name does not show it: a shard that was renamed, a download that was cut and repaired, a merge that lost blocks.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { native, writeSafetensors } from "@refit-sidecar/native";
import { describe, expect, it } from "vitest";
import { openBase } from "../../sidecar/src/bake/index.ts";
import { summarize } from "../../sidecar/src/catalog/index.ts";
import { explain } from "../../sidecar/src/explain/index.ts";
import { realHeader, tensors } from "../sidecar/catalog/headers.ts";
import { demo, fluxModel, newFolder, write } from "./support.ts";

const models = readdirSync(new URL("../golden/headers/", import.meta.url)).map((name) => name.replace(/\.json\.gz$/, ""));
const problemOf = (header: Readonly<Record<string, readonly number[]>>) => summarize(tensors(header), {}, "checkpoint").problem;
const pick = (header: Readonly<Record<string, readonly number[]>>, keep: (name: string, index: number, count: number) => boolean) =>
  Object.fromEntries(Object.entries(header).filter(([name], index, all) => keep(name, index, all.length)));

/** The highest number of the longest list of blocks. */
function lastBlock(names: readonly string[]): { readonly list: string; readonly last: number } {
  const lists = new Map<string, number>();
  for (const name of names) {
    const found = /^([^0-9]+)\.([0-9]+)\..+\../.exec(name);
    if (found?.[1] !== undefined) lists.set(found[1], Math.max(lists.get(found[1]) ?? 0, Number(found[2])));
  }
  const [list, last] = [...lists].sort((a, b) => b[1] - a[1])[0] ?? ["", 0];
  return { list, last };
}

describe.each(models)("%s", (model) => {
  const whole = realHeader(model);
  const names = Object.keys(whole);
  const { list, last } = lastBlock(names);
  const firstByName = new Set([...names].sort().slice(0, Math.floor(names.length / 2)));
  const known = problemOf(whole);

  it("is whole", () => {
    expect(known?.code).not.toBe("CATALOG_INCOMPLETE");
  });

  it.each([
    ["the first half of its tensors", (_: string, index: number, count: number) => index < count / 2],
    ["the second half", (_: string, index: number, count: number) => index >= count / 2],
    ["the first half by name", (name: string) => firstByName.has(name)],
    ["the second half by name", (name: string) => !firstByName.has(name)],
    ["all but a block in the middle", (name: string) => !name.startsWith(`${list}.${Math.floor(last / 2)}.`)],
    ["all but the first block", (name: string) => !name.startsWith(`${list}.0.`)],
  ] as const)("%s is no model", (_, keep) => {
    const code = problemOf(pick(whole, keep))?.code;
    expect(["CATALOG_INCOMPLETE", "CATALOG_UNKNOWN_ARCHITECTURE", "CATALOG_UNSUPPORTED_MODEL"]).toContain(code);
  });

  it.skipIf(list.includes("put_blocks"))("all but a piece of its last block is no model", () => {
    const inner = names.filter((name) => name.startsWith(`${list}.${last}.`));
    const cut = inner.filter((name) => !name.includes("context_block")).slice(0, 2);
    // A list of single layers ends one earlier then, which nothing shows.
    if (cut.length === inner.length) return;
    if (known !== null) return expect(known.code).toBe("CATALOG_UNSUPPORTED_MODEL");
    expect(problemOf(pick(whole, (name) => !cut.includes(name)))?.code).toBe("CATALOG_INCOMPLETE");
  });
});

it("a UNet without the rest of its middle is whole: Vega keeps the first layer, smaller relatives none", () => {
  const whole = realHeader("sdxl");
  for (const left of ["middle_block.0.", "none"])
    expect(problemOf(pick(whole, (name) => !name.startsWith("middle_block.") || name.startsWith(left)))?.code).not.toBe(
      "CATALOG_INCOMPLETE",
    );
});

describe("a Flux that lost single tensors", () => {
  const whole = realHeader("flux-dev");
  it.each([
    ["double_blocks.7.txt_mlp.0.weight", "which the blocks around it have"],
    ["single_blocks.20.norm.key_norm.scale", "which the blocks around it have"],
    ["img_in.weight", "img_in.weight"],
    ["vector_in.out_layer.weight", "although vector_in.out_layer.bias is there"],
  ])("%s", (lost, said) => {
    expect(problemOf(whole)).toBeNull();
    const problem = problemOf(pick(whole, (name) => !name.endsWith(lost)));
    expect(["CATALOG_INCOMPLETE", "CATALOG_UNKNOWN_ARCHITECTURE"]).toContain(problem?.code);
    if (problem?.code === "CATALOG_INCOMPLETE") expect(problem.message).toContain(said);
  });
});

it("a model with a block too few in the middle is refused although its family is told", async () => {
  const path = join(newFolder(), "half.safetensors");
  const more = (number: number) =>
    Object.fromEntries(
      Object.entries(fluxModel()).map(([name, given]) => [name.replace("double_blocks.0.", `double_blocks.${number}.`), given]),
    );
  const without = (lost: RegExp) =>
    write(path, Object.fromEntries(Object.entries({ ...more(0), ...more(1), ...more(2) }).filter(([name]) => !lost.test(name))));
  for (const lost of [/^double_blocks\.1\./, /^double_blocks\.1\.txt_mlp\.2\.weight$/]) {
    await without(lost);
    await expect(openBase(path, "flux"), String(lost)).rejects.toMatchObject({ code: "CATALOG_INCOMPLETE" });
  }
});

it("a renamed shard is refused with what it lacks, wherever a checkpoint is read", async () => {
  const path = join(newFolder(), "my model.safetensors");
  const file = await native.openTensorFile(join(demo, "demo-unet.safetensors"));
  const entries = [...file.header.entries.values()];
  await writeSafetensors(
    path,
    entries.slice(0, Math.floor(entries.length / 2)).map((entry) => ({ ...entry, data: () => file.read(entry.name) })),
  );
  const refusal = { code: "CATALOG_INCOMPLETE", message: expect.stringContaining("part of a checkpoint") as string };
  await expect(openBase(path, null)).rejects.toMatchObject(refusal);
  await expect(explain(join(demo, "loras", "small.safetensors"), path)).rejects.toMatchObject(refusal);
  expect(await explain(path, null)).toMatchObject({ summary: { family: "sd15", problem: refusal } });
  await file.close();
});

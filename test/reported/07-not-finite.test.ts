import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { strength as onTheWire } from "../../protocol/src/messages/values.ts";
import { bake } from "../../sidecar/src/bake/index.ts";
import { parseAdapter, parseJob } from "../../sidecar/src/cli/merge.ts";
import { liveFolderStack } from "../../sidecar/src/plan/index.ts";
import { maxStrength } from "../../sidecar/src/terms/index.ts";
import { fluxModel, newFolder, pair, run, valuesOf, write } from "./support.ts";
import type { Given } from "./support.ts";

const folder = newFolder();
const at = (name: string) => join(folder, name);
const module = "diffusion_model.double_blocks.0.img_attn.proj";
const weight = "double_blocks.0.img_attn.proj.weight";

beforeAll(async () => {
  await write(at("f16.safetensors"), fluxModel("F16"));
  await write(at("bf16.safetensors"), {
    ...fluxModel("BF16"),
    "double_blocks.0.txt_attn.proj.weight": { shape: [32, 32], dtype: "BF16", values: [1e5, ...Array<number>(1023).fill(0)] },
  });
  await write(
    at("strong.safetensors"),
    Object.fromEntries(Object.entries(pair(module, 32, 32)).map(([key, given]) => [key, { ...given, values: [30] }])),
  );
  await write(at("weak.safetensors"), pair(module, 32, 32));
});

const merge = (base: string, adapter: string, dtype: "keep" | "f16" = "keep") =>
  bake(parseJob({ base: at(base), adapter: [at(adapter)], out: at("o.safetensors"), dtype }));

describe("values that the file's type cannot hold", () => {
  it("are counted by parameter: f16 overflow of the merge and of --dtype f16", async () => {
    const strong = run(
      folder,
      "merge",
      "--base",
      "f16.safetensors",
      "--adapter",
      "strong.safetensors:100",
      "--out",
      "o.safetensors",
      "--json",
    );
    expect(strong).toMatchObject({
      status: 0,
      last: { overflowed: [{ parameter: weight, values: 1024, dtype: "F16" }], saturated: [{ parameter: weight, values: 1024 }] },
    });
    expect((await valuesOf(at("o.safetensors"), weight)).filter((value) => !Number.isFinite(value))).toHaveLength(1024);
    expect(await merge("bf16.safetensors", "weak.safetensors", "f16")).toMatchObject({
      overflowed: [{ parameter: "double_blocks.0.txt_attn.proj.weight", values: 1, dtype: "F16" }],
    });
    expect(await merge("bf16.safetensors", "weak.safetensors")).toMatchObject({ overflowed: [], saturated: [] });
  });

  it("of the adapter itself are named, and so is what they make of the model", async () => {
    await write(at("infinite.safetensors"), {
      ...pair(module, 32, 32),
      [`${module}.lora_B.weight`]: { shape: [32, 4], values: [Infinity, ...Array<number>(127).fill(0)] },
    });
    expect(await merge("f16.safetensors", "infinite.safetensors")).toMatchObject({
      adapters: [{ nonFinite: [`${module}.lora_B.weight`] }],
      overflowed: [{ parameter: weight }],
    });
    await write(at("alpha.safetensors"), { ...pair(module, 32, 32), [`${module}.alpha`]: { shape: [], values: [Infinity] } });
    expect((await merge("f16.safetensors", "alpha.safetensors")).adapters[0]?.problem?.message).toContain("alpha is not a finite number");
  });
});

describe("values that are not finite in the base already", () => {
  const base = (change: Record<string, Given>) => write(at("base.safetensors"), { ...fluxModel(), ...change });
  const odd = (value: number): Given => ({ shape: [32, 32], values: [value, ...Array<number>(1023).fill(0)] });

  it("are named where the output has them: under the adapter, in another layer, beside the model, and in words instead of NaN %", async () => {
    await base({
      [weight]: odd(NaN),
      "double_blocks.0.txt_attn.proj.weight": odd(Infinity),
      "vae.decoder.conv_in.weight": odd(-Infinity),
    });
    for (const dtype of ["keep", "bf16"] as const) {
      const report = await bake(
        parseJob({ base: at("base.safetensors"), adapter: [at("weak.safetensors")], out: at("o.safetensors"), dtype }),
      );
      expect(report.overflowed).toEqual([]);
      expect(report.baseNotFinite.map(({ tensor, values }) => [tensor, values]).sort()).toEqual([
        [weight, 1],
        ["double_blocks.0.txt_attn.proj.weight", 1],
        ["vae.decoder.conv_in.weight", 1],
      ]);
    }
    const { stdout } = run(folder, "merge", "--base", "base.safetensors", "--adapter", "weak.safetensors", "--out", "o.safetensors");
    expect(stdout).toContain(`1 values of ${weight} are NaN or infinite in the base already`);
    expect(stdout).not.toContain("NaN %");
  });

  it("in the scales of a quantised weight are refused by the scale's name", async () => {
    for (const scale of [NaN, Infinity, -Infinity]) {
      await base({
        [weight]: { shape: [32, 32], dtype: "F8_E4M3" },
        "double_blocks.0.img_attn.proj.weight_scale": { shape: [], values: [scale] },
      });
      await expect(merge("base.safetensors", "weak.safetensors")).rejects.toMatchObject({
        code: "STORAGE_INVALID",
        message: expect.stringContaining(`found ${scale} in double_blocks.0.img_attn.proj.weight_scale`) as string,
      });
    }
  });
});

it("a note of what fp8 cut is not given of values that overflowed in another type", () => {
  const { stdout } = run(folder, "merge", "--base", "f16.safetensors", "--adapter", "strong.safetensors:100", "--out", "o.safetensors");
  expect(stdout).toContain("are not finite in F16");
  expect(stdout).not.toContain("fp8");
});

describe("a strength", () => {
  it("that is no usable number is refused on the command line and in jobs, with the way to write one", () => {
    for (const text of ["l:1e999", "l:-1e999", "l:nan", "l:inf", "l:Infinity", "l:100.5", "l:-101", "l:0,8", "l:0.8.1", "l:80%"])
      expect(() => parseAdapter(text), text).toThrow(/strength/);
    expect(() => parseJob({ base: "b", adapter: ["l:1e999"], out: "o" })).toThrow(/strength/);
    expect(() => parseAdapter(`${at("weak.safetensors")}:strong`)).toThrow("written weak.safetensors:0.8");
    expect([parseAdapter("l:100"), parseAdapter("l:-.5"), parseAdapter("C:\\l.safetensors")]).toEqual([
      { path: "l", strength: 100 },
      { path: "l", strength: -0.5 },
      { path: "C:\\l.safetensors", strength: 1 },
    ]);
  });

  it("has one limit everywhere", () => {
    expect(onTheWire.safeParse(maxStrength).success).toBe(true);
    for (const value of [maxStrength + 0.001, Infinity, NaN, -maxStrength - 1]) expect(onTheWire.safeParse(value).success).toBe(false);
  });

  it("behind an @ may have a decimal comma; one that cannot be used refuses its file", () => {
    const entry = (name: string) =>
      ({
        kind: "adapter",
        id: `adapter:${name}`,
        folder: "f",
        name,
        path: name,
        sizeBytes: 1,
        identity: { sha256: name.padEnd(64, "0"), proof: "full" },
        family: null,
        kinds: [],
        tensors: 1,
        evidence: [],
        problem: null,
      }) as const;
    const live = liveFolderStack(
      [
        "a@0,5.safetensors",
        "b@-1.5.safetensors",
        "c@1e999.safetensors",
        "d@nan.safetensors",
        "e@0.8 (1).safetensors",
        "f@101.safetensors",
        "g@home.safetensors",
        "h@1,000.5.safetensors",
      ].map(entry),
    );
    expect(live.stack.map(({ sha256, strength }) => [sha256[0], strength])).toEqual([
      ["a", 0.5],
      ["b", -1.5],
      ["g", 1],
    ]);
    expect(live.refused.map(({ id }) => id.slice(8, 9))).toEqual(["c", "d", "e", "f", "h"]);
    for (const { reason } of live.refused) expect(reason).toMatch(/strength .* rename the file/);
  });
});

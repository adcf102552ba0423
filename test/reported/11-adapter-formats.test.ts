// Alpha in metadata (11), one-dimensional DoRA magnitudes (14), and other spellings that files in the wild have.

import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { bake } from "../../sidecar/src/bake/index.ts";
import { parseJob } from "../../sidecar/src/cli/merge.ts";
import { canonicalNames } from "../../sidecar/src/terms/index.ts";
import { alpha, flux, reasonOf, recognise, sd15, wan } from "../sidecar/delta/small-structures.ts";
import { fluxModel, newFolder, pair, valuesOf, write } from "./support.ts";

const folder = newFolder();
const at = (name: string) => join(folder, name);
const module = "transformer.transformer_blocks.0.attn.to_q";
const fused = "double_blocks.0.img_attn.qkv.weight";

beforeAll(async () => {
  await write(at("base.safetensors"), fluxModel());
});

const merge = (adapter: string, mode: "comfyui" | "extended") =>
  bake(parseJob({ base: at("base.safetensors"), adapter: [at(adapter)], out: at("o.safetensors"), mode, family: "flux" }));

/** How many times B A was added to the rows of q, against B A itself. */
async function effect(adapter: string): Promise<number> {
  const [before, after, a, b] = [
    await valuesOf(at("base.safetensors"), fused),
    await valuesOf(at("o.safetensors"), fused),
    await valuesOf(at(adapter), `${module}.lora_A.weight`),
    await valuesOf(at(adapter), `${module}.lora_B.weight`),
  ];
  let change = 0;
  let whole = 0;
  for (let row = 0; row < 32; row += 1)
    for (let column = 0; column < 32; column += 1) {
      const product = [0, 1, 2, 3].reduce((sum, rank) => sum + (b[row * 4 + rank] ?? 0) * (a[rank * 32 + column] ?? 0), 0);
      change += ((after[row * 32 + column] ?? 0) - (before[row * 32 + column] ?? 0)) ** 2;
      whole += product ** 2;
    }
  return Math.sqrt(change / whole);
}

describe("alpha in metadata", () => {
  const asks: readonly (readonly [what: string, metadata: Record<string, string>, scale: number])[] = [
    ["transformer.lora_alpha", { "transformer.lora_alpha": "16", "transformer.r": "4" }, 4],
    ["network_alpha", { network_alpha: "8" }, 2],
    ["alpha", { alpha: "2.0" }, 0.5],
    ["lora_alpha, root scaled", { lora_alpha: "16", use_rslora: "True" }, 8],
    ["lora_adapter_metadata", { lora_adapter_metadata: JSON.stringify({ "transformer.lora_alpha": 16, "transformer.r": 4 }) }, 4],
    ["kohya's own field, which only repeats alpha tensors", { ss_network_alpha: "16" }, 1],
    ["no number", { lora_alpha: "a lot" }, 1],
  ];

  it.each(asks)("%s: extended mode applies it, the other says what it does not apply", async (_what, metadata, scale) => {
    await write(at("a.safetensors"), pair(module, 32, 32), metadata);
    const extended = await merge("a.safetensors", "extended");
    expect(await effect("a.safetensors")).toBeCloseTo(scale, 3);
    expect(extended.adapters[0]?.warnings).toEqual([]);
    const { warnings } = (await merge("a.safetensors", "comfyui")).adapters[0] ?? { warnings: [] };
    expect(await effect("a.safetensors")).toBeCloseTo(1, 3);
    expect(warnings).toEqual(scale === 1 ? [] : [expect.stringContaining(`asks for x ${scale}`)]);
  });

  it("gives way to an alpha tensor of the module", () => {
    const found = recognise(
      "flux",
      flux,
      { [`${module}.lora_A.weight`]: [4, 32], [`${module}.lora_B.weight`]: [32, 4], [`${module}.alpha`]: alpha(2) },
      "extended",
      { lora_alpha: "16" },
    );
    expect(found.terms).toMatchObject([{ kind: "lowRank", scale: 0.5 }]);
  });
});

describe("a DoRA magnitude of one dimension", () => {
  const tensors = (stem: string, out: number, into: number) => ({
    [`${stem}.lora_down.weight`]: [4, into],
    [`${stem}.lora_up.weight`]: [out, 4],
    [`${stem}.dora_scale`]: [out],
  });

  it("is one a row in extended mode, with the norms of the merged rows; the other mode says that it is not", () => {
    for (const [stem, out, into] of [
      ["diffusion_model.blocks.0.self_attn.q", 32, 32],
      ["diffusion_model.blocks.0.ffn.0", 48, 32],
    ] as const) {
      const { terms, factors, notes } = recognise("wan", wan, tensors(stem, out, into), "extended");
      expect(terms).toMatchObject([{ doraNorm: "merged" }]);
      expect(factors.get(terms[0]?.doraScale ?? "")?.shape).toEqual([out, 1]);
      expect(notes).toEqual([]);
      expect(recognise("wan", wan, tensors(stem, out, into)).notes).toEqual([expect.stringContaining("extended mode")]);
    }
    const conv = recognise("sd15", sd15, tensors("lora_unet_conv_in", 16, 4), "extended");
    expect(conv.factors.size).toBeGreaterThanOrEqual(0);
  });

  it("leaves magnitudes of full shape as they are", () => {
    const { terms, factors } = recognise(
      "wan",
      wan,
      { ...tensors("diffusion_model.blocks.0.ffn.0", 48, 32), "diffusion_model.blocks.0.ffn.0.dora_scale": [48, 1] },
      "extended",
    );
    expect(terms[0]).not.toHaveProperty("doraNorm");
    expect(factors.get(terms[0]?.doraScale ?? "")?.shape).toEqual([48, 1]);
  });
});

describe("other spellings", () => {
  it("diff_m is the difference of a modulation in extended mode, and named in the other", () => {
    const key = "diffusion_model.blocks.0.diff_m";
    expect(recognise("wan", wan, { [key]: [1, 6, 32] }, "extended").terms).toMatchObject([
      { kind: "dense", target: { parameter: "blocks.0.modulation" } },
    ]);
    expect(reasonOf(recognise("wan", wan, { [key]: [1, 6, 32] }).report.ignored, key)).toContain("extended mode reads it");
  });

  it("lora_B.bias is a change of the bias in extended mode where it is not scaled, and named everywhere else", () => {
    const stem = "diffusion_model.double_blocks.0.img_attn.qkv";
    const tensors = { [`${stem}.lora_A.weight`]: [4, 32], [`${stem}.lora_B.weight`]: [96, 4], [`${stem}.lora_B.bias`]: [96] };
    const extended = recognise("flux", flux, tensors, "extended");
    expect(extended.terms.map(({ kind, target }) => [kind, target.parameter])).toEqual(
      expect.arrayContaining([["dense", "double_blocks.0.img_attn.qkv.bias"]]),
    );
    expect(extended.report.used).toHaveLength(3);
    expect(reasonOf(recognise("flux", flux, tensors).report.ignored, `${stem}.lora_B.bias`)).toContain("extended mode reads it");
    expect(
      reasonOf(recognise("flux", flux, { ...tensors, [`${stem}.alpha`]: alpha(16) }, "extended").report.failed, `${stem}.lora_B.bias`),
    ).toContain("alpha / rank = 4");
  });

  it("markers of v-prediction beside bare names are no parameters", () => {
    const names = canonicalNames(new Map([...sd15, ["v_pred", []], ["ztsnr", []], ["edm_vpred.sigma_max", []]]));
    expect([...names.parameters.keys()].sort()).toEqual([...sd15.keys()].sort());
    expect(names.otherKeys).toEqual(["v_pred", "ztsnr", "edm_vpred.sigma_max"]);
  });
});

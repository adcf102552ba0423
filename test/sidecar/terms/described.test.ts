// Every described family against ComfyUI's and diffusers' own names: detection, key maps, diffusers' layouts, extended mode. Vectors: test/golden2.

import { readFileSync, readdirSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { detectModel } from "../../../sidecar/src/catalog/index.ts";
import type { Family } from "../../../sidecar/src/catalog/types.ts";
import { canonicalNames, keyMap, type Parameters } from "../../../sidecar/src/terms/names/index.ts";

const golden2 = new URL("../../golden2/", import.meta.url);
const text = (path: string): string => readFileSync(new URL(path, golden2), "utf8");
const unzipped = (path: string): string => gunzipSync(readFileSync(new URL(path, golden2))).toString("utf8");

interface Expected {
  readonly family: Family;
  readonly unet_config: Readonly<Record<string, unknown>>;
  readonly slices_outside_target: number;
}
const expected = JSON.parse(text("detect.json")) as Readonly<Record<string, Expected>>;
const models = Object.keys(expected);
const header = (folder: string, model: string): Map<string, number[]> =>
  new Map(Object.entries(JSON.parse(unzipped(`${folder}/${model}.json.gz`)) as Record<string, number[]>));
const canonical = (shapes: Parameters): Map<string, readonly number[]> =>
  new Map([...canonicalNames(shapes).parameters].map(([name, { shape }]) => [name, shape]));
const checkpoint = (model: string): Map<string, readonly number[]> => canonical(header("../golden/headers", model));

describe("detection", () => {
  test.each(models)("%s: ComfyUI's family and configuration, from names and shapes", (model) => {
    const found = detectModel(checkpoint(model));
    if (found === null || "unsupported" in found) throw new Error(`not detected: ${JSON.stringify(found)}`);
    expect(found.family).toBe(expected[model]?.family);
    expect(expected[model]?.unet_config).toMatchObject(found.config);
    expect(found.evidence.length).toBeGreaterThan(1);
  });

  test("no model is taken for another family when a key is added that others have", () => {
    const flux2 = checkpoint("flux2-dev");
    expect(detectModel(new Map([...flux2, ["distilled_guidance_layer.norms.0.weight", [8]]]))).toMatchObject({ family: "flux2" });
    const lone = new Map([...checkpoint("chroma")].filter(([name]) => !name.startsWith("distilled_guidance_layer.norms.")));
    expect(detectModel(lone)).toMatchObject({ unsupported: expect.stringContaining("Chroma") as string });
  });
});

/** Rows of the right parts where ComfyUI assumes equal thirds of a matrix whose keys are grouped (Lumina 2): the file's `to_k` and `to_v` are dim/3 long. */
function intended(model: string, line: string): string {
  if (expected[model]?.slices_outside_target === 0) return line;
  return line.replace("0,2304,2304", "0,2304,768").replace("0,4608,2304", "0,3072,768");
}

describe("key maps equal ComfyUI 0.33's", () => {
  test.each(models)("%s", (model) => {
    const rows = [...keyMap(expected[model]?.family ?? "wan", checkpoint(model))].map(([name, { parameter, slice, swapHalves }]) =>
      [name, `diffusion_model.${parameter}`, slice ? `0,${slice.start},${slice.length}` : "", swapHalves ? "swap_halves_dim0" : ""]
        .join("\t")
        .trimEnd(),
    );
    const lines = unzipped(`keymap/${model}.tsv.gz`)
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => intended(model, line.trimEnd()));
    expect(rows.sort()).toEqual(lines.sort());
  });
});

/** Parameters that diffusers keeps in another model, or not at all. */
const elsewhere: Readonly<Record<string, RegExp>> = {
  anima: /^llm_adapter\./,
  "ltx2-19b": /_embeddings_connector\./,
  "minimax-h3": /^rope\./,
  "wan22-animate-14b": /\.kernel$/,
};
const inDiffusers = readdirSync(new URL("headers-diffusers/", golden2)).map((file) => file.replace(".json.gz", ""));

describe("diffusers' own files have the same parameters", () => {
  test.each(inDiffusers)("%s", (model) => {
    const names = canonicalNames(header("headers-diffusers", model));
    const found = new Map([...names.parameters].map(([name, { shape }]) => [name, shape]));
    expect(names.otherKeys).toEqual([]);
    const wanted = [...checkpoint(model)].filter(([name]) => !elsewhere[model]?.test(name));
    expect(Object.fromEntries(found)).toEqual(Object.fromEntries(wanted));
    expect(detectModel(found, names.family)).toMatchObject({ family: expected[model]?.family });
  });
});

describe("extended mode", () => {
  /** Names that diffusers' converters apply and ComfyUI ignores. */
  const names: readonly (readonly [model: string, name: string, parameter: string, slice?: readonly [number, number]])[] = [
    ["z-image", "lora_unet_layers_3_attention_to_k", "layers.3.attention.qkv.weight", [3840, 3840]],
    ["lumina2", "transformer.layers.0.attn.to_v", "layers.0.attention.qkv.weight", [3072, 768]],
    ["lumina2", "transformer.norm_out.linear_1", "final_layer.adaLN_modulation.1.weight"],
    ["krea2", "base_model.model.blocks.0.attn.wq", "blocks.0.attn.wq.weight"],
    ["krea2", "transformer.transformer_blocks.0.norm1", "blocks.0.prenorm.scale"],
    ["flux2-dev", "base_model.model.double_blocks.0.img_attn.qkv", "double_blocks.0.img_attn.qkv.weight"],
    ["flux2-dev", "transformer.time_guidance_embed.timestep_embedder.linear_1", "time_in.in_layer.weight"],
    ["flux2-dev", "transformer.double_stream_modulation_img.linear", "double_stream_modulation_img.lin.weight"],
    ["flux2-dev", "diffusion_model.transformer_blocks.0.attn.to_q", "double_blocks.0.img_attn.qkv.weight", [0, 6144]],
    ["chroma", "transformer.distilled_guidance_layer.layers.0.linear_1", "distilled_guidance_layer.layers.0.in_layer.weight"],
    ["anima", "transformer.transformer_blocks.0.attn1.to_q", "blocks.0.self_attn.q_proj.weight"],
    ["ltxv-2b", "transformer.transformer_blocks.0.attn1.to_q", "transformer_blocks.0.attn1.to_q.weight"],
    ["ltx2-19b", "transformer.av_cross_attn_video_a2v_gate.linear", "av_ca_a2v_gate_adaln_single.linear.weight"],
    ["hunyuan-video", "transformer.transformer_blocks.0.attn.add_k_proj", "double_blocks.0.txt_attn.qkv.weight", [3072, 3072]],
    ["hunyuan-video", "transformer.single_transformer_blocks.0.proj_mlp", "single_blocks.0.linear1.weight", [9216, 12288]],
    ["wan21-vace-1.3b", "transformer.vace_blocks.0.proj_in", "vace_blocks.0.before_proj.weight"],
    ["wan22-animate-14b", "transformer.face_adapter.1.to_v", "face_adapter.fuser_blocks.1.linear1_kv.weight", [5120, 5120]],
  ];
  for (const [model, name, parameter, slice] of names)
    test(`${model} takes ${name}, which ComfyUI ignores`, () => {
      const [family, parameters] = [expected[model]?.family ?? "wan", checkpoint(model)];
      expect(keyMap(family, parameters).has(name)).toBe(false);
      expect(keyMap(family, parameters, "extended").get(name)).toEqual({
        parameter,
        ...(slice ? { slice: { start: slice[0], length: slice[1] } } : {}),
      });
    });
});

describe("names of other releases", () => {
  test("HunyuanVideo in Tencent's names has the same parameters", () => {
    const tencent: readonly (readonly [RegExp, string])[] = [
      [/_attn\.norm\.(query|key)_norm\.scale$/, "_attn_$1_norm.weight"],
      [/^(single_blocks\.\d+)\.norm\.(query|key)_norm\.scale$/, "$1.$2_norm.weight"],
      [/(query|key)_norm\.weight$/, "$1"],
    ];
    const short = (name: string): string =>
      tencent
        .reduce((made, [from, to]) => made.replace(from, to), name)
        .replace(/_query$/, "_q_norm.weight")
        .replace(/_key$/, "_k_norm.weight")
        .replace(/\.query$/, ".q_norm.weight")
        .replace(/\.key$/, ".k_norm.weight");
    const renamed = (name: string): string =>
      short(name)
        .replace("_attn.qkv.", "_attn_qkv.")
        .replace("_attn.proj.", "_attn_proj.")
        .replace("_mod.lin.", "_mod.linear.")
        .replace(".modulation.lin.", ".modulation.linear.")
        .replace(/mlp\.0\./, "mlp.fc1.")
        .replace(/mlp\.2\./, "mlp.fc2.")
        .replace("t_embedder.in_layer.", "t_embedder.mlp.0.")
        .replace("t_embedder.out_layer.", "t_embedder.mlp.2.")
        .replace("c_embedder.in_layer.", "c_embedder.linear_1.")
        .replace("c_embedder.out_layer.", "c_embedder.linear_2.")
        .replace(/^(time|vector|guidance)_in\.in_layer\./, "$1_in.mlp.0.")
        .replace(/^(time|vector|guidance)_in\.out_layer\./, "$1_in.mlp.2.");
    const file = header("../golden/headers", "hunyuan-video");
    const found = canonical(new Map([...file].map(([name, shape]) => [renamed(name), shape])));
    expect(Object.fromEntries(found)).toEqual(Object.fromEntries(checkpoint("hunyuan-video")));
  });

  test("Flux.1's norms are one parameter as .scale and as .weight", () => {
    const file = header("../golden/headers", "flux-dev");
    const names = canonicalNames(new Map([...file].map(([name, shape]) => [name.replace(/_norm\.scale$/, "_norm.weight"), shape])));
    expect(new Set(names.parameters.keys())).toEqual(new Set(file.keys()));
    expect(names.parameters.get("single_blocks.0.norm.key_norm.scale")?.parts[0]?.key).toBe("single_blocks.0.norm.key_norm.weight");
  });
});

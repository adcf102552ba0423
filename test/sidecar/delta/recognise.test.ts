import { describe, expect, test } from "vitest";
import { alpha, flux, reasonOf, recognise, sd15, wan } from "./small-structures.ts";

const toQ = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
const nativeQ = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q";
const parameterQ = "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight";
const lora = (stem: string, o = 16, i = 16, r = 4): Record<string, number[]> => ({
  [`${stem}.lora_up.weight`]: [o, r],
  [`${stem}.lora_down.weight`]: [r, i],
});

describe("recogniseAdapter", () => {
  test("takes the first spelling whose up tensor exists, and alpha with any of them", () => {
    for (const [up, down] of [
      [".lora_up.weight", ".lora_down.weight"],
      ["_lora.up.weight", "_lora.down.weight"],
      [".lora_B.weight", ".lora_A.weight"],
      [".lora.up.weight", ".lora.down.weight"],
      [".lora_B", ".lora_A"],
      [".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight"],
      [".lora_B.default.weight", ".lora_A.default.weight"],
    ]) {
      const { terms, report } = recognise("sd15", sd15, { [toQ + up]: [16, 4], [toQ + down]: [4, 16], [`${toQ}.alpha`]: alpha(2) });
      expect(terms).toMatchObject([{ kind: "lowRank", scale: 0.5, target: { parameter: parameterQ } }]);
      expect(report).toMatchObject({ ignored: [], failed: [] });
      expect(report.used).toHaveLength(3);
    }
  });

  test("reports the keys of a spelling that a later one supersedes", () => {
    const { terms, report } = recognise("sd15", sd15, { ...lora(nativeQ), ...lora(toQ) });
    expect(terms).toHaveLength(1);
    expect(terms[0]?.sourceKeys[0]).toContain("down_blocks");
    expect(reasonOf(report.failed, `${nativeQ}.lora_up.weight`)).toContain("superseded");
  });

  test("an alpha shared with the winning kind counts as used", () => {
    const { report } = recognise("sd15", sd15, {
      ...lora(toQ),
      [`${toQ}.hada_w1_a`]: [16, 2],
      [`${toQ}.hada_w1_b`]: [2, 16],
      [`${toQ}.hada_w2_a`]: [16, 2],
      [`${toQ}.hada_w2_b`]: [2, 16],
      [`${toQ}.alpha`]: alpha(1),
    });
    expect(report.used).toContain(`${toQ}.alpha`);
    expect(report.failed.map(({ key }) => key).sort()).toEqual([`${toQ}.lora_down.weight`, `${toQ}.lora_up.weight`]);
  });

  test("PEFT attention names without .processor. wait for extended mode and say so", () => {
    const keys = {
      "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight": [4, 16],
      "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight": [16, 4],
    };
    const strict = recognise("sd15", sd15, keys);
    expect(strict.terms).toEqual([]);
    expect(strict.report.ignored.map(({ reason }) => reason)).toEqual(
      Array(2).fill("ComfyUI does not know this spelling; extended mode reads it"),
    );
    expect(recognise("sd15", sd15, keys, "extended").terms).toMatchObject([{ kind: "lowRank", target: { parameter: parameterQ } }]);
    const wrapped = Object.fromEntries(Object.entries(keys).map(([key, shape]) => [key.replace("unet.", "base_model.model."), shape]));
    expect(recognise("sd15", sd15, wrapped, "extended").terms).toHaveLength(1);
  });

  test("extended mode reads raw PEFT names with an adapter name, and leaves several adapters alone", () => {
    const stem = "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";
    const one = {
      [`${stem}.lora_A.style.weight`]: [4, 16],
      [`${stem}.lora_B.style.weight`]: [16, 4],
      [`${stem}.lora_magnitude_vector.style.weight`]: [16],
    };
    expect(recognise("sd15", sd15, one, "extended").terms).toMatchObject([{ kind: "lowRank", doraNorm: "merged" }]);
    expect(recognise("sd15", sd15, { ...one, [`${stem}.lora_A.other.weight`]: [4, 16] }, "extended").terms).toEqual([]);
  });

  test("two keys that mean one tensor: the later counts, the other is named", () => {
    const stem = "unet.down_blocks.0.attentions.0.proj_in";
    const keys = { [`${stem}.lora_A.weight`]: [4, 16], [`${stem}.lora_A.one.weight`]: [2, 16], [`${stem}.lora_B.weight`]: [16, 2] };
    const { terms, report } = recognise("sd15", sd15, keys, "extended");
    expect(terms).toHaveLength(1);
    expect(reasonOf(report.failed, `${stem}.lora_A.weight`)).toContain("same tensor");
  });

  test("PEFT's alpha comes from metadata in extended mode only", () => {
    const stem = "unet.down_blocks.0.attentions.0.proj_in";
    const keys = { [`${stem}.lora_A.weight`]: [4, 16], [`${stem}.lora_B.weight`]: [16, 4] };
    const metadata = {
      lora_adapter_metadata: JSON.stringify({ "unet.lora_alpha": 8, "unet.r": 4, "unet.alpha_pattern": { "attentions.0.proj_in": 2 } }),
    };
    expect(recognise("sd15", sd15, keys, "comfyui", metadata).terms).toMatchObject([{ scale: 1 }]);
    expect(recognise("sd15", sd15, keys, "extended", metadata).terms).toMatchObject([{ scale: 0.5 }]);
    const root = { lora_adapter_metadata: JSON.stringify({ "unet.lora_alpha": 8, "unet.use_rslora": true }) };
    expect(recognise("sd15", sd15, keys, "extended", root).terms).toMatchObject([{ scale: 4 }]);
    for (const text of ["{", "[]", "null", '{"unet.lora_alpha":"8"}', '{"unet.lora_alpha":-1}'])
      expect(recognise("sd15", sd15, keys, "extended", { lora_adapter_metadata: text }).terms).toMatchObject([{ scale: 1 }]);
  });

  test("IA3 is a channel scale in extended mode", () => {
    const keys = (axis: number): Parameters<typeof recognise>[2] => ({
      [`${toQ}.weight`]: [16],
      [`${toQ}.on_input`]: { shape: [], dtype: "BOOL", numbers: [axis] },
    });
    expect(recognise("sd15", sd15, keys(0), "extended").terms).toMatchObject([{ kind: "channelScale", axis: "rows" }]);
    expect(recognise("sd15", sd15, keys(1), "extended").terms).toMatchObject([{ kind: "channelScale", axis: "columns" }]);
    expect(reasonOf(recognise("sd15", sd15, keys(0)).report.ignored, `${toQ}.weight`)).toContain("IA3");
  });

  test("extended mode reads diffusers' Wan names, XLabs double blocks and bare names", () => {
    expect(
      recognise(
        "wan",
        wan,
        {
          "transformer.blocks.0.attn1.to_q.lora_A.weight": [4, 32],
          "transformer.blocks.0.attn1.to_q.lora_B.weight": [32, 4],
          "transformer.blocks.0.norm2.diff": [32],
          "blocks.0.scale_shift_table.diff": [1, 6, 32],
        },
        "extended",
      )
        .terms.map(({ target }) => target.parameter)
        .sort(),
    ).toEqual(["blocks.0.modulation", "blocks.0.norm3.weight", "blocks.0.self_attn.q.weight"]);
    expect(recognise("wan", wan, lora("blocks.0.ffn.0", 48, 32), "extended").terms).toHaveLength(1);
    expect(recognise("wan", wan, lora("model.diffusion_model.blocks.0.ffn.0", 48, 32), "extended").terms).toHaveLength(1);
    const xlabs = { "double_blocks.0.processor.qkv_lora1.down.weight": [4, 32], "double_blocks.0.processor.qkv_lora1.up.weight": [96, 4] };
    expect(recognise("flux", flux, xlabs, "extended").terms).toMatchObject([
      { target: { parameter: "double_blocks.0.img_attn.qkv.weight" } },
    ]);
    expect(recognise("flux", flux, xlabs).report.ignored.map(({ reason }) => reason)).toEqual(
      Array(2).fill("ComfyUI does not know this spelling; extended mode reads it"),
    );
  });

  test("fused projections are addressed by rows, and a bias delta on them is dropped with a word", () => {
    const stem = "transformer.transformer_blocks.0.attn.to_k";
    const { terms, report } = recognise("flux", flux, { ...lora(stem, 32, 32), [`${stem}.diff_b`]: [32] });
    expect(terms).toMatchObject([{ target: { parameter: "double_blocks.0.img_attn.qkv.weight", slice: { start: 32, length: 32 } } }]);
    expect(reasonOf(report.failed, `${stem}.diff_b`)).toContain("fused");
  });

  test("text encoder, embedding and VAE keys are not for the engine", () => {
    const keys = [
      "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight",
      "lora_te1_x.alpha",
      "text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_A.weight",
      "text_encoders.t5xxl.x.lora_A.weight",
      "bundle_emb.a.b",
      "vae.decoder.x",
    ];
    const { report } = recognise("sd15", sd15, Object.fromEntries(keys.map((key) => [key, [1]])));
    expect(report.failed).toEqual([]);
    expect(report.ignored.map(({ reason }) => reason.split(":")[0])).toEqual(keys.map(() => "not for the engine"));
  });

  test("tensors of kinds that are not supported are named", () => {
    const { report } = recognise("sd15", sd15, {
      [`${toQ}.oft_R.weight`]: [4, 6],
      [`${toQ}.bm.weight`]: [2, 2, 3, 3],
      [`${toQ}.ia3_l`]: [16, 1],
    });
    expect(report.ignored.map(({ reason }) => reason)).toEqual(
      ["oft_R.weight", "bm.weight", "ia3_l"].map((rest) => `a tensor ${rest} of a known module: this kind is not supported`),
    );
  });

  test("every key of a file ends in exactly one list", () => {
    const keys = {
      ...lora(toQ),
      ...lora(nativeQ),
      [`${toQ}.scalar`]: [],
      random: [3],
      "lora_unet_nothing.lora_up.weight": [2, 2],
      [`${toQ}.dora_scale`]: [7, 7],
    };
    const { report } = recognise("sd15", sd15, keys);
    expect([...report.used, ...report.ignored.map(({ key }) => key), ...report.failed.map(({ key }) => key)].sort()).toEqual(
      Object.keys(keys).sort(),
    );
  });
});

describe("malformed modules are named, and the rest is merged", () => {
  const good = lora("lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k", 16, 24);
  const cases: readonly (readonly [string, Parameters<typeof recognise>[2], string, string])[] = [
    ["up without down", { [`${toQ}.lora_up.weight`]: [16, 4] }, `${toQ}.lora_up.weight`, "without lora_down.weight"],
    ["ranks that differ", { [`${toQ}.lora_up.weight`]: [16, 4], [`${toQ}.lora_down.weight`]: [8, 16] }, `${toQ}.lora_up.weight`, "rank"],
    ["a product of another size", lora(toQ, 8, 8), `${toQ}.lora_up.weight`, "8 x 8"],
    ["an alpha of several values", { ...lora(toQ), [`${toQ}.alpha`]: { shape: [2], numbers: [1, 2] } }, `${toQ}.alpha`, "2 values"],
    ["an alpha that is no number", { ...lora(toQ), [`${toQ}.alpha`]: { shape: [], numbers: [NaN] } }, `${toQ}.alpha`, "finite"],
    ["an alpha beyond f32", { ...lora(toQ), [`${toQ}.alpha`]: alpha(1e300) }, `${toQ}.alpha`, "finite"],
    ["a DoRA magnitude that is one number", { ...lora(toQ), [`${toQ}.dora_scale`]: [] }, `${toQ}.lora_up.weight`, "single number"],
    [
      "integer factors",
      { [`${toQ}.lora_up.weight`]: { shape: [16, 4], dtype: "I32" }, [`${toQ}.lora_down.weight`]: [4, 16] },
      `${toQ}.lora_up.weight`,
      "floating-point",
    ],
    ["rank 0", lora(toQ, 16, 16, 0), `${toQ}.lora_up.weight`, "rank is 0"],
    ["scalars for matrices", { [`${toQ}.lora_up.weight`]: [], [`${toQ}.lora_down.weight`]: [] }, `${toQ}.lora_up.weight`, "rank is 0"],
    ["half a LoHa", { [`${toQ}.hada_w1_a`]: [16, 2] }, `${toQ}.hada_w1_a`, "without hada_w1_b, hada_w2_a, hada_w2_b"],
    [
      "one LoHa core",
      {
        [`${toQ}.hada_w1_a`]: [16, 2],
        [`${toQ}.hada_w1_b`]: [2, 16],
        [`${toQ}.hada_w2_a`]: [16, 2],
        [`${toQ}.hada_w2_b`]: [2, 16],
        [`${toQ}.hada_t1`]: [2, 2, 3, 3],
      },
      `${toQ}.hada_w1_a`,
      "hada_t2",
    ],
    ["half a LoKr", { [`${toQ}.lokr_w1`]: [4, 4], [`${toQ}.lokr_w2_a`]: [4, 2] }, `${toQ}.lokr_w1`, "lokr_w2_b"],
    [
      "a GLoRA of no layout",
      { [`${toQ}.a1.weight`]: [3, 5], [`${toQ}.a2.weight`]: [7, 2], [`${toQ}.b1.weight`]: [1, 9], [`${toQ}.b2.weight`]: [4, 4] },
      `${toQ}.a1.weight`,
      "neither GLoRA layout",
    ],
    ["half a GLoRA", { [`${toQ}.a1.weight`]: [16, 4] }, `${toQ}.a1.weight`, "without a2.weight"],
    ["OFT blocks that do not cover the rows", { [`${toQ}.oft_blocks`]: [3, 4, 4] }, `${toQ}.oft_blocks`, "do not cover"],
    ["OFT blocks that are not square", { [`${toQ}.oft_blocks`]: [4, 4, 2] }, `${toQ}.oft_blocks`, "square"],
    ["a BOFT without alpha", { [`${toQ}.oft_blocks`]: [2, 4, 4, 4] }, `${toQ}.oft_blocks`, "without alpha"],
    ["a BOFT with too many stages", { [`${toQ}.oft_blocks`]: [6, 4, 4, 4], [`${toQ}.alpha`]: alpha(1) }, `${toQ}.oft_blocks`, "stage"],
    ["a delta of another shape", { [`${toQ}.diff`]: [8, 8] }, `${toQ}.diff`, "shape [8, 8]"],
    ["a value of another shape", { [`${toQ}.set_weight`]: [8, 8] }, `${toQ}.set_weight`, "shape [8, 8]"],
    ["a DoRA magnitude of another shape", { ...lora(toQ), [`${toQ}.dora_scale`]: [5, 1] }, `${toQ}.lora_up.weight`, "dora_scale [5, 1]"],
    [
      "a pad smaller than the parameter",
      { ...lora(toQ), [`${toQ}.reshape_weight`]: { shape: [2], dtype: "I64", numbers: [8, 8] } },
      `${toQ}.lora_up.weight`,
      "smaller",
    ],
    [
      "a pad that would not fit memory",
      { ...lora(toQ, 1 << 20, 1 << 20, 1), [`${toQ}.reshape_weight`]: { shape: [2], dtype: "I64", numbers: [1 << 20, 1 << 20] } },
      `${toQ}.lora_up.weight`,
      "values in between",
    ],
    [
      "a core that would not fit memory",
      {
        [`${toQ}.hada_t1`]: [1 << 26, 1, 1, 1],
        [`${toQ}.hada_w1_a`]: [1 << 26, 16],
        [`${toQ}.hada_w1_b`]: [1, 16],
        [`${toQ}.hada_t2`]: [1, 1, 1, 1],
        [`${toQ}.hada_w2_a`]: [1, 16],
        [`${toQ}.hada_w2_b`]: [1, 16],
      },
      `${toQ}.hada_t1`,
      "values in between",
    ],
    ["a scale of nothing", { [`${toQ}.alpha`]: alpha(1) }, `${toQ}.alpha`, "without factors"],
    [
      "a name that the structure lacks",
      lora("lora_unet_down_blocks_0_resnets_0_conv_shortcut"),
      "lora_unet_down_blocks_0_resnets_0_conv_shortcut.lora_up.weight",
      "has no parameter input_blocks.1.0.skip_connection.weight",
    ],
  ];
  for (const [name, tensors, key, text] of cases) {
    test(name, () => {
      const { terms, report } = recognise("sd15", sd15, { ...good, ...tensors });
      expect(terms.map(({ target }) => target.parameter)).toEqual(["input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"]);
      expect(reasonOf(report.failed, key)).toContain(text);
    });
  }

  test("a LoKr core merges in extended mode and fails by name in ComfyUI's", () => {
    const stem = "lora_unet_input_blocks_1_0_in_layers_2";
    const keys = {
      [`${stem}.lokr_w1`]: [4, 4],
      [`${stem}.lokr_t2`]: [2, 2, 3, 3],
      [`${stem}.lokr_w2_a`]: [2, 4],
      [`${stem}.lokr_w2_b`]: [2, 4],
    };
    expect(reasonOf(recognise("sd15", sd15, keys).report.failed, `${stem}.lokr_w1`)).toContain("extended mode");
    expect(recognise("sd15", sd15, keys, "extended").terms).toMatchObject([{ kind: "kronecker" }]);
  });

  test("an OFT's rescale is not applied in ComfyUI's mode, and said so", () => {
    const keys = { [`${toQ}.oft_blocks`]: [4, 4, 4], [`${toQ}.rescale`]: [16, 1] };
    const strict = recognise("sd15", sd15, keys);
    expect(strict.terms[0]).not.toHaveProperty("rescale");
    expect(reasonOf(strict.report.failed, `${toQ}.rescale`)).toContain("does not apply");
    expect(recognise("sd15", sd15, keys, "extended").terms).toMatchObject([{ rescale: "f000001", strengthOnce: true }]);
  });
});

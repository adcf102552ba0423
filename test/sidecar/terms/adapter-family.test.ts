import { describe, expect, test } from "vitest";
import { detectAdapterFamily } from "../../../sidecar/src/terms/names/index.ts";

type Case = readonly [
  name: string,
  shapes: Readonly<Record<string, readonly number[]>>,
  family: string | null,
  metadata?: Record<string, string>,
];
const lora = (stem: string, inputs: number): Record<string, number[]> => ({
  [`${stem}.lora_down.weight`]: [4, inputs],
  [`${stem}.lora_up.weight`]: [8, 4],
});

const attn = (block: string): string => `lora_unet_${block}_transformer_blocks_0_attn2_to_k`;
const cases: readonly Case[] = [
  ["SD1.5 by condition width", lora(attn("down_blocks_0_attentions_0"), 768), "sd15"],
  ["SD2 by condition width", lora(attn("input_blocks_1_1"), 1024), "sd2"],
  ["SDXL by condition width", lora(attn("mid_block_attentions_0"), 2048), "sdxl"],
  ["refiner by condition width", lora(attn("down_blocks_1_attentions_0"), 1280), "sdxl-refiner"],
  ["PEFT spelling", { "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v.lora_A.weight": [4, 768] }, "sd15"],
  [
    "old attention processors",
    { "down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_v_lora.down.weight": [4, 768] },
    "sd15",
  ],
  ["LoHa", { [`${attn("down_blocks_0_attentions_0")}.hada_w1_b`]: [4, 2048] }, "sdxl"],
  [
    "LoKr",
    { [`${attn("down_blocks_0_attentions_0")}.lokr_w1`]: [4, 16], [`${attn("down_blocks_0_attentions_0")}.lokr_w2_b`]: [4, 64] },
    "sd2",
  ],
  ["full delta", { [`${attn("down_blocks_0_attentions_0")}.diff`]: [320, 768] }, "sd15"],
  ["GLoRA", { [`${attn("down_blocks_0_attentions_0")}.a2.weight`]: [4, 768] }, "sd15"],
  ["refiner by attention width", lora("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q", 768), "sdxl-refiner"],
  ["SDXL by depth", lora("lora_unet_down_blocks_2_attentions_0_transformer_blocks_7_ff_net_2", 5120), "sdxl"],
  [
    "SDXL by second text encoder",
    { ...lora("lora_unet_down_blocks_0_resnets_0_conv1", 320), ...lora("lora_te2_text_model_encoder_layers_0_mlp_fc1", 1280) },
    "sdxl",
  ],
  ["SD2 by text encoder", { ...lora("lora_unet_conv_in", 4), ...lora("lora_te_text_model_encoder_layers_0_mlp_fc1", 1024) }, "sd2"],
  ["a UNet that only metadata names", lora("lora_unet_down_blocks_0_resnets_0_conv1", 320), "sd15", { ss_base_model_version: "sd_v1" }],
  ["a UNet that nothing names", lora("lora_unet_down_blocks_0_resnets_0_conv1", 320), null],
  ["SD3 kohya", lora("lora_unet_joint_blocks_0_x_block_attn_qkv", 1536), "sd3"],
  ["SD3 diffusers", lora("transformer.transformer_blocks.0.attn.add_q_proj", 2432), "sd3"],
  ["Flux kohya", lora("lora_unet_double_blocks_0_img_attn_qkv", 3072), "flux"],
  ["Flux diffusers", lora("transformer.single_transformer_blocks.0.attn.to_q", 3072), "flux"],
  ["Flux diffusers, double blocks only", lora("transformer.transformer_blocks.0.attn.add_q_proj", 3072), "flux"],
  ["XLabs", { "double_blocks.0.processor.qkv_lora1.down.weight": [16, 3072] }, "flux"],
  ["Wan musubi", lora("lora_unet_blocks_0_self_attn_q", 5120), "wan"],
  ["Wan native", { "diffusion_model.blocks.0.ffn.0.lora_A.weight": [4, 1536] }, "wan"],
  ["Wan diffusers", { "transformer.blocks.0.attn1.to_q.lora_A.weight": [4, 1536] }, "wan"],
  ["a mid block alone is no Wan", lora("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q", 1280), null],
  ["HunyuanVideo", lora("lora_unet_double_blocks_0_img_mod_linear", 3072), "hunyuan-video"],
  [
    "Qwen-Image",
    { "transformer_blocks.0.attn.add_q_proj.lora_A.weight": [4, 3072], "transformer_blocks.0.img_mod.1.lora_A.weight": [4, 3072] },
    "qwen-image",
  ],
  ["text encoders only", lora("lora_te_text_model_encoder_layers_0_mlp_fc1", 768), null],
  ["nothing", {}, null],
];

describe("detectAdapterFamily", () => {
  for (const [name, shapes, family, metadata] of cases) {
    test(name, () => {
      const found = detectAdapterFamily(new Map(Object.entries(shapes)), metadata);
      expect(found.family).toBe(family);
      expect(found.evidence.length).toBeGreaterThan(0);
    });
  }

  test("metadata never overrides shapes", () => {
    expect(
      detectAdapterFamily(new Map(Object.entries(lora(attn("down_blocks_0_attentions_0"), 768))), {
        ss_base_model_version: "sdxl_base_v1-0",
      }).family,
    ).toBe("sd15");
  });
});

/** LoRA tensors of modules; `rows` and `width` per module. */
function pairs(
  modules: readonly (readonly [stem: string, rows: number, width: number])[],
  style: "peft" | "kohya" = "peft",
): Map<string, number[]> {
  const [down, up] = style === "peft" ? [".lora_A.weight", ".lora_B.weight"] : [".lora_down.weight", ".lora_up.weight"];
  return new Map(
    modules.flatMap(
      ([stem, rows, width]) =>
        [
          [stem + down, [4, width]],
          [stem + up, [rows, 4]],
        ] as [string, number[]][],
    ),
  );
}

const blocks = (numbers: readonly number[], stems: readonly string[], rows: number, width: number): [string, number, number][] =>
  numbers.flatMap((n) => stems.map((stem): [string, number, number] => [stem.replace("{n}", String(n)), rows, width]));
const count = (to: number): number[] => Array.from({ length: to }, (_, n) => n);
const loKr = (stems: readonly string[], left: number, right: number): Map<string, number[]> =>
  new Map(
    stems.flatMap(
      (stem) =>
        [
          [`${stem}.lokr_w1`, [left, left]],
          [`${stem}.lokr_w2`, [right, right]],
        ] as [string, number[]][],
    ),
  );

/** Adapters whose names or widths look like another family's; `family` null: named, and not served. */
const lookAlikes: readonly (readonly [name: string, shapes: Map<string, number[]>, family: string | null, title?: string])[] = [
  [
    "Qwen-Image, diffusers' default targets",
    pairs(
      blocks(count(60), ["transformer.transformer_blocks.{n}.attn.to_q", "transformer.transformer_blocks.{n}.attn.to_out.0"], 3072, 3072),
    ),
    "qwen-image",
  ],
  [
    "Qwen-Image LoKr, ai-toolkit",
    loKr(
      [0, 59].flatMap((n) => [
        `diffusion_model.transformer_blocks.${n}.attn.to_q`,
        `diffusion_model.transformer_blocks.${n}.attn.add_q_proj`,
      ]),
      8,
      384,
    ),
    "qwen-image",
  ],
  [
    "Flux.2 dev, ai-toolkit",
    pairs([
      ["diffusion_model.double_blocks.0.img_attn.qkv", 18432, 6144],
      ["diffusion_model.single_blocks.47.linear1", 55296, 6144],
    ]),
    "flux2",
  ],
  ["Flux.2 dev, diffusers", pairs([["transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj", 55296, 6144]]), "flux2"],
  [
    "Flux.2 klein 9B",
    pairs([
      ["diffusion_model.double_blocks.0.img_attn.qkv", 12288, 4096],
      ["diffusion_model.single_blocks.0.linear1", 36864, 4096],
    ]),
    "flux2",
  ],
  [
    "Flux.2 klein 4B, as wide as Flux.1",
    pairs(
      [
        ["lora_unet_double_blocks_0_img_attn_qkv", 9216, 3072],
        ["lora_unet_single_blocks_3_linear1", 27648, 3072],
      ],
      "kohya",
    ),
    "flux2",
  ],
  [
    "Flux.2 klein 4B, attention of all blocks",
    pairs(
      [
        ...blocks(count(5), ["lora_unet_double_blocks_{n}_img_attn_qkv"], 9216, 3072),
        ...blocks(count(20), ["lora_unet_single_blocks_{n}_linear2"], 3072, 12288),
      ],
      "kohya",
    ),
    "flux2",
  ],
  [
    "Anima, kohya",
    pairs(blocks([0, 27], ["lora_unet_blocks_{n}_self_attn_q_proj", "lora_unet_blocks_{n}_mlp_layer1"], 2048, 2048), "kohya"),
    "anima",
  ],
  [
    "Anima, ComfyUI's names",
    pairs(
      blocks([0, 27], ["diffusion_model.blocks.{n}.self_attn.q_proj", "diffusion_model.blocks.{n}.cross_attn.output_proj"], 2048, 2048),
    ),
    "anima",
  ],
  ["Cosmos Predict2", pairs(blocks([0, 27], ["net.blocks.{n}.self_attn.q_proj"], 2048, 2048)), null, "Cosmos Predict2"],
  ["Cosmos Predict2 14B", pairs(blocks([0, 35], ["diffusion_model.blocks.{n}.self_attn.q_proj"], 5120, 5120)), null, "Cosmos Predict2"],
  [
    "LTX-2 (IC-LoRA)",
    pairs(
      blocks(
        [0, 47],
        ["diffusion_model.transformer_blocks.{n}.attn1.to_q", "diffusion_model.transformer_blocks.{n}.ff.net.0.proj"],
        4096,
        4096,
      ),
    ),
    "ltx2",
  ],
  [
    "LTX-Video",
    pairs(
      blocks([0, 27], ["transformer.transformer_blocks.{n}.attn1.to_q", "transformer.transformer_blocks.{n}.ff.net.0.proj"], 2048, 2048),
    ),
    "ltxv",
  ],
  [
    "CogVideoX",
    pairs(
      blocks([0, 41], ["transformer.transformer_blocks.{n}.attn1.to_q", "transformer.transformer_blocks.{n}.ff.net.0.proj"], 3072, 3072),
    ),
    null,
    "CogVideoX",
  ],
  [
    "PixArt, PEFT",
    pairs(
      blocks(
        [0, 27],
        ["base_model.model.transformer_blocks.{n}.attn1.to_q", "base_model.model.transformer_blocks.{n}.ff.net.0.proj"],
        1152,
        1152,
      ),
    ),
    null,
    "PixArt",
  ],
  ["ACE-Step", pairs(blocks([0, 23], ["transformer_blocks.{n}.attn.to_q"], 2560, 2560)), null, "ACE-Step"],
  [
    "HunyuanVideo, diffusion-pipe",
    pairs([
      ["transformer.double_blocks.0.img_attn_qkv", 9216, 3072],
      ["transformer.single_blocks.39.linear1", 21504, 3072],
    ]),
    "hunyuan-video",
  ],
  [
    "HunyuanVideo, musubi, attention only",
    pairs(blocks([0, 19], ["lora_unet_double_blocks_{n}_img_attn_qkv"], 9216, 3072), "kohya"),
    "hunyuan-video",
  ],
  ["HunyuanVideo 1.5", pairs([["diffusion_model.double_blocks.53.img_attn.qkv", 6144, 2048]]), "hunyuan-video-1.5"],
  [
    "FramePack, musubi",
    pairs(blocks([0, 39], ["lora_unet_single_transformer_blocks_{n}_attn_to_q"], 3072, 3072), "kohya"),
    null,
    "FramePack",
  ],
  ["HunyuanDiT", pairs(blocks([0, 39], ["lora_unet_blocks_{n}_attn1_Wqkv"], 1408, 1408), "kohya"), null, "HunyuanDiT"],
  [
    "AuraFlow, diffusers",
    pairs([
      ["transformer.joint_transformer_blocks.0.attn.to_q", 3072, 3072],
      ["transformer.single_transformer_blocks.0.attn.to_q", 3072, 3072],
    ]),
    null,
    "AuraFlow",
  ],
  ["Krea 2 LoKr, SimpleTuner", loKr(["lycoris_transformer_blocks_0_attn_to_qkv"], 8, 384), null, "Krea 2"],
  ["Krea 2", pairs(blocks([0, 27], ["diffusion_model.blocks.{n}.attn.wq"], 6144, 6144)), "krea2"],
  ["Krea 2, diffusers", pairs(blocks([0, 27], ["transformer.transformer_blocks.{n}.attn.to_gate"], 6144, 6144)), "krea2"],
  [
    "Stable Video Diffusion",
    pairs([
      ["unet.down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn1.to_q", 320, 320],
      ["unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k", 320, 1024],
    ]),
    null,
    "Stable Video Diffusion",
  ],
  ["Z-Image, native", pairs(blocks(count(30), ["diffusion_model.layers.{n}.attention.qkv"], 11520, 3840)), "z-image"],
  ["Z-Image, kohya", pairs(blocks(count(30), ["lora_unet_layers_{n}_attention_out"], 3840, 3840), "kohya"), "z-image"],
  ["Lumina 2, diffusers", pairs(blocks(count(26), ["transformer.layers.{n}.attn.to_q"], 2304, 2304)), "lumina2"],
  ["Lumina 2, native", pairs(blocks(count(26), ["diffusion_model.layers.{n}.attention.qkv"], 3840, 2304)), "lumina2"],
  [
    "Chroma with its guidance layer",
    pairs([
      ["diffusion_model.distilled_guidance_layer.in_proj", 5120, 64],
      ["diffusion_model.double_blocks.0.img_attn.qkv", 9216, 3072],
    ]),
    "chroma",
  ],
  ["HiDream", pairs(blocks([0, 15], ["transformer.double_stream_blocks.{n}.block.attn1.to_q"], 2560, 2560)), "hidream"],
  ["Kandinsky 5", pairs(blocks([0, 31], ["visual_transformer_blocks.{n}.self_attention.to_query"], 1792, 1792)), "kandinsky5"],
  ["Wan Animate's face adapter", pairs(blocks([0, 7], ["diffusion_model.face_adapter.fuser_blocks.{n}.linear1_kv"], 10240, 5120)), "wan"],
  ["LTX-2 audio", pairs(blocks([0], ["transformer.transformer_blocks.{n}.audio_attn1.to_q"], 2048, 2048)), "ltx2"],
  [
    "Flux.1 of all blocks",
    pairs(
      [
        ...blocks(count(19), ["lora_unet_double_blocks_{n}_img_attn_qkv"], 9216, 3072),
        ...blocks(count(38), ["lora_unet_single_blocks_{n}_linear1"], 21504, 3072),
      ],
      "kohya",
    ),
    "flux",
  ],
  [
    "SD3.5 large",
    pairs(
      blocks(count(38), ["transformer.transformer_blocks.{n}.attn.to_q", "transformer.transformer_blocks.{n}.attn.add_k_proj"], 2432, 2432),
    ),
    "sd3",
  ],
];

describe("adapters that look like another family's", () => {
  for (const [name, shapes, family, title] of lookAlikes)
    test(name, () => {
      const found = detectAdapterFamily(shapes);
      expect([found.family, found.unsupported]).toEqual([family, family === null ? expect.stringContaining(title ?? "?") : null]);
      expect(found.evidence.length).toBeGreaterThan(0);
    });
});

describe("families that names and sizes leave open", () => {
  const attention = ["transformer.transformer_blocks.{n}.attn.to_q", "transformer.transformer_blocks.{n}.attn.to_k"];
  const kohya = ["lora_unet_double_blocks_{n}_img_attn_qkv"];
  const open: readonly (readonly [string, Map<string, number[]>, string | null, readonly string[]])[] = [
    ["attention of some blocks", pairs(blocks(count(6), attention, 3072, 3072)), "flux", ["flux", "chroma", "qwen-image", "hunyuan-video"]],
    [
      "attention of the first blocks",
      pairs(blocks(count(3), attention, 3072, 3072)),
      "flux",
      ["flux", "chroma", "qwen-image", "hunyuan-video", "flux2"],
    ],
    ["attention of all of Flux.1's blocks", pairs(blocks(count(19), attention, 3072, 3072)), "flux", ["flux", "chroma"]],
    [
      "a feed-forward layer beside it",
      pairs([...blocks(count(6), attention, 3072, 3072), ["transformer.transformer_blocks.0.ff.net.2", 3072, 12288]]),
      "flux",
      ["flux", "chroma", "hunyuan-video"],
    ],
    [
      "a modulation beside it",
      pairs([...blocks(count(6), attention, 3072, 3072), ["transformer.transformer_blocks.0.norm1.linear", 18432, 3072]]),
      "flux",
      ["flux"],
    ],
    ["native names of some blocks", pairs(blocks(count(6), kohya, 9216, 3072), "kohya"), "flux", ["flux", "chroma", "hunyuan-video"]],
    [
      "native names with a modulation",
      pairs([...blocks(count(6), kohya, 9216, 3072), ["lora_unet_double_blocks_0_img_mod_lin", 18432, 3072]], "kohya"),
      "flux",
      ["flux"],
    ],
    ["4096 wide attention", pairs(blocks(count(6), ["transformer_blocks.{n}.attn1.to_q"], 4096, 4096)), "ltx2", ["ltx2", "ltxv"]],
    ["2048 wide attention", pairs(blocks(count(6), ["transformer_blocks.{n}.attn1.to_q"], 2048, 2048)), "ltxv", ["ltxv", "anima"]],
    ["a block that Flux.1 lacks", pairs(blocks(count(30), attention, 3072, 3072)), "qwen-image", ["qwen-image"]],
  ];
  for (const [name, shapes, family, candidates] of open)
    test(name, () => {
      const found = detectAdapterFamily(shapes);
      expect([found.family, found.candidates]).toEqual([family, candidates]);
      for (const other of candidates.slice(1)) expect(found.evidence).toContain(`names and sizes that ${other} has too`);
    });
});

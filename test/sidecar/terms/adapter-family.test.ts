import { describe, expect, test } from "vitest";
import { detectAdapterFamily } from "../../../sidecar/src/terms/names/index.ts";

type Case = readonly [name: string, shapes: Readonly<Record<string, readonly number[]>>, family: string | null, metadata?: Record<string, string>];
const lora = (stem: string, inputs: number): Record<string, number[]> => ({ [`${stem}.lora_down.weight`]: [4, inputs], [`${stem}.lora_up.weight`]: [8, 4] });

const attn = (block: string): string => `lora_unet_${block}_transformer_blocks_0_attn2_to_k`;
const cases: readonly Case[] = [
  ["SD1.5 by condition width", lora(attn("down_blocks_0_attentions_0"), 768), "sd15"],
  ["SD2 by condition width", lora(attn("input_blocks_1_1"), 1024), "sd2"],
  ["SDXL by condition width", lora(attn("mid_block_attentions_0"), 2048), "sdxl"],
  ["refiner by condition width", lora(attn("down_blocks_1_attentions_0"), 1280), "sdxl-refiner"],
  ["PEFT spelling", { "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v.lora_A.weight": [4, 768] }, "sd15"],
  ["old attention processors", { "down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_v_lora.down.weight": [4, 768] }, "sd15"],
  ["LoHa", { [`${attn("down_blocks_0_attentions_0")}.hada_w1_b`]: [4, 2048] }, "sdxl"],
  ["LoKr", { [`${attn("down_blocks_0_attentions_0")}.lokr_w1`]: [4, 16], [`${attn("down_blocks_0_attentions_0")}.lokr_w2_b`]: [4, 64] }, "sd2"],
  ["full delta", { [`${attn("down_blocks_0_attentions_0")}.diff`]: [320, 768] }, "sd15"],
  ["GLoRA", { [`${attn("down_blocks_0_attentions_0")}.a2.weight`]: [4, 768] }, "sd15"],
  ["refiner by attention width", lora("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q", 768), "sdxl-refiner"],
  ["SDXL by depth", lora("lora_unet_down_blocks_2_attentions_0_transformer_blocks_7_ff_net_2", 5120), "sdxl"],
  ["SDXL by second text encoder", { ...lora("lora_unet_down_blocks_0_resnets_0_conv1", 320), ...lora("lora_te2_text_model_encoder_layers_0_mlp_fc1", 1280) }, "sdxl"],
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
  ["HunyuanVideo", lora("lora_unet_double_blocks_0_img_mod_linear", 3072), null],
  ["Qwen-Image", { "transformer_blocks.0.attn.add_q_proj.lora_A.weight": [4, 3072], "transformer_blocks.0.img_mod.1.lora_A.weight": [4, 3072] }, null],
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
    expect(detectAdapterFamily(new Map(Object.entries(lora(attn("down_blocks_0_attentions_0"), 768))), { ss_base_model_version: "sdxl_base_v1-0" }).family).toBe("sd15");
  });

  test("other models are named", () => {
    expect(detectAdapterFamily(new Map(Object.entries(lora("lora_unet_double_blocks_0_img_mod_linear", 3072)))).unsupported).toBe("HunyuanVideo");
  });
});

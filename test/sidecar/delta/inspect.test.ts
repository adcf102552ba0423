import { describe, expect, test } from "vitest";
import type { Dtype } from "@refit-sidecar/native";
import { inspectAdapter } from "../../../sidecar/src/delta/index.ts";
import { encodeDeltaHeader } from "../../../sidecar/src/terms/index.ts";
import { recognise, sd15 } from "./small-structures.ts";

const header = (
  shapes: Readonly<Record<string, readonly number[]>>,
  metadata: Record<string, string> = {},
): Parameters<typeof inspectAdapter>[0] => ({
  tensors: new Map(Object.entries(shapes).map(([key, shape]) => [key, { dtype: "F16" as Dtype, shape }])),
  metadata,
});

const k = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k";
const q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";

describe("inspectAdapter", () => {
  test("tells family, kinds, ranks, hints, modules and size from the header", () => {
    const found = inspectAdapter(
      header(
        {
          [`${k}.lora_up.weight`]: [320, 8],
          [`${k}.lora_down.weight`]: [8, 768],
          [`${k}.alpha`]: [],
          [`${q}.hada_w1_a`]: [320, 4],
          [`${q}.hada_w1_b`]: [4, 320],
          [`${q}.dora_scale`]: [320, 1],
          "lora_unet_conv_in.diff": [320, 4, 3, 3],
          "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": [9, 4],
        },
        { ss_base_model_version: "sd_v1", ss_network_module: "lycoris.kohya", unrelated: "x" },
      ),
    );
    expect(found).toMatchObject({
      kind: "adapter",
      family: { family: "sd15" },
      kinds: { lora: 1, loha: 1, diff: 1 },
      dora: 1,
      ranks: { 8: 1, 4: 1 },
      hints: { ss_base_model_version: "sd_v1", ss_network_module: "lycoris.kohya" },
      modules: [k, q, "lora_unet_conv_in"],
      refit: { values: 320 * 768 + 320 * 320 + 320 * 36, bytesF16: 2 * (320 * 768 + 320 * 320 + 320 * 36) },
      foreign: { "not for the engine: text encoder": 1 },
      against: null,
    });
  });

  test("with a checkpoint, tells the parameters that would change and the fate of each key", () => {
    const { against } = inspectAdapter(
      header({ [`${k}.lora_up.weight`]: [16, 8], [`${k}.lora_down.weight`]: [8, 24], [`${k}.alpha`]: [], other: [1] }),
      { family: "sd15", parameters: sd15 },
    );
    expect(against?.parameters).toEqual(["input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"]);
    expect(against?.report.ignored).toEqual([{ key: "other", reason: "not an adapter tensor" }]);
  });

  test("an exported delta and TensorRT-Redux weights say what they are", () => {
    const { terms, report } = recognise("sd15", sd15, { [`${q}.lora_up.weight`]: [16, 4], [`${q}.lora_down.weight`]: [4, 16] });
    const delta = {
      formatVersion: 1,
      adapter: "a",
      structure: "5d5d",
      family: "sd15",
      mode: "comfyui",
      terms,
      sources: {},
      report,
      warnings: [],
      problem: null,
      bytes: 512,
    } as const;
    expect(inspectAdapter(header({ f000000: [16, 4] }, encodeDeltaHeader(delta)))).toMatchObject({
      kind: "exported delta",
      family: { family: "sd15" },
      kinds: { lowRank: 1 },
      modules: [terms[0]!.target.parameter],
    });
    expect(() => inspectAdapter(header({}, { refit_delta: "{" }))).toThrow("expected a whole delta file");
    expect(inspectAdapter(header({}, { base_engine: "e", lora_file: "l", lora_strength: "1", num_deltas: "0" })).kind).toBe(
      "TensorRT-Redux weights",
    );
  });

  test("sizes of every factored kind", () => {
    const values = (shapes: Readonly<Record<string, readonly number[]>>): number => inspectAdapter(header(shapes)).refit.values;
    expect(values({ "x.lora_up.weight": [8, 2, 1, 1], "x.lora_down.weight": [2, 4, 1, 1], "x.lora_mid.weight": [2, 2, 3, 3] })).toBe(
      8 * 4 * 9,
    );
    expect(values({ "x.lokr_w1": [2, 2], "x.lokr_w2_a": [4, 1], "x.lokr_w2_b": [1, 8] })).toBe(8 * 16);
    expect(values({ "x.hada_t1": [2, 2, 3, 3], "x.hada_w1_a": [2, 8], "x.hada_w1_b": [2, 4] })).toBe(8 * 4 * 9);
    expect(values({ "x.a1.weight": [4, 2], "x.a2.weight": [2, 4], "x.b1.weight": [8, 2], "x.b2.weight": [2, 4] })).toBe(8 * 4);
    expect(values({ "x.oft_blocks": [4, 4, 4] })).toBe(0);
  });
});

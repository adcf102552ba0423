import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { detectModel, structureOf, summarize } from "../../../sidecar/src/catalog/index.ts";
import { expected, realHeader, shapes, tensors } from "./headers.ts";

/** ComfyUI's class for what we call family and variant. */
const comfyClass: Readonly<Record<string, string>> = {
  "sd15 base": "SD15",
  "sd2 base": "SD20",
  "sdxl base": "SDXL",
  "sdxl-refiner base": "SDXLRefiner",
  "flux dev": "Flux",
  "flux schnell": "FluxSchnell",
  "sd3 3-medium": "SD3",
  "sd3 3.5-large": "SD3",
  "wan t2v-1.3b": "WAN21_T2V",
  "wan t2v-14b": "WAN21_T2V",
  "wan 2.1-i2v-14b": "WAN21_I2V",
  // ComfyUI knows no class of its own for it.
  "wan 2.2-i2v-14b": "WAN21_T2V",
};

const families: Readonly<Record<string, string>> = {
  sd15: "sd15 base",
  sd2: "sd2 base",
  sdxl: "sdxl base",
  "sdxl-refiner": "sdxl-refiner base",
  "flux-dev": "flux dev",
  "flux-schnell": "flux schnell",
  "sd3-medium": "sd3 3-medium",
  "sd35-large": "sd3 3.5-large",
  "wan21-t2v-1.3b": "wan t2v-1.3b",
  "wan21-t2v-14b": "wan t2v-14b",
  "wan21-i2v-14b": "wan 2.1-i2v-14b",
  "wan22-i2v-14b": "wan 2.2-i2v-14b",
};

function summary(header: Readonly<Record<string, readonly number[]>>, prefix = "") {
  const found = summarize(tensors(header, prefix), {}, "checkpoint");
  if (found.kind !== "checkpoint") throw new Error("taken for an adapter");
  return found;
}

describe("detectModel on headers of real models", () => {
  it.each(Object.keys(expected))("%s: family, variant and configuration as ComfyUI has them", (model) => {
    const header = realHeader(model);
    const detected = detectModel(shapes(header));
    if (detected === null || "unsupported" in detected) throw new Error(`not detected: ${JSON.stringify(detected)}`);
    const name = `${detected.family} ${detected.variant}`;
    expect(name).toBe(families[model]);
    expect(comfyClass[name]).toBe(expected[model]?.comfy_class);
    expect(detected.config).toEqual(expected[model]?.unet_config);
    expect(detected.evidence.length).toBeGreaterThan(0);
    expect(Object.keys(header)).toHaveLength(expected[model]?.tensors ?? 0);
  });

  it.each(["model.diffusion_model.", "model.model.", "net.", "model.", ""])(
    "is the same behind the prefix %j, with other models' tensors beside it",
    (prefix) => {
      const alone = summary(realHeader("sdxl"));
      const found = summarize(
        new Map([
          ...tensors(realHeader("sdxl"), prefix),
          ...(prefix === ""
            ? []
            : tensors({ "first_stage_model.encoder.conv_in.weight": [128, 3, 3, 3], "conditioner.embedders.0.transformer.x": [4] })),
        ]),
        {},
        "checkpoint",
      );
      expect(found).toEqual({ ...alone, keyPrefix: prefix });
    },
  );
});

describe("structureOf", () => {
  it("hashes sorted lines of name, tab, dimensions, line feed", () => {
    const parameters = shapes({ "b.weight": [2, 3], a: [], "B.weight": [1] });
    const text = "B.weight\t1\na\t\nb.weight\t2,3\n";
    expect(structureOf(parameters)).toBe(createHash("sha256").update(text).digest("hex"));
  });

  it("does not depend on dtype, prefix or fp8 helpers", () => {
    const header = realHeader("flux-dev");
    const plain = summary(header).structure;
    const scaled: Record<string, readonly number[]> = { ...header, scaled_fp8: [2] };
    for (const name of Object.keys(header))
      if (name.endsWith(".weight"))
        Object.assign(scaled, { [name.replace(/weight$/, "scale_weight")]: [], [name.replace(/weight$/, "scale_input")]: [] });
    expect(summary(scaled, "model.diffusion_model.").structure).toBe(plain);
    expect(summarize(tensors(header, "", "F8_E4M3"), {}, "checkpoint")).toMatchObject({ structure: plain, dtypes: { F8_E4M3: 780 } });
  });

  it("tells SD1 from SD2 and Flux dev from schnell", () => {
    const structures = Object.keys(expected).map((model) => summary(realHeader(model)).structure);
    // Wan 2.1 and 2.2 i2v differ in input channels; only 14B t2v and nothing else could repeat one.
    expect(new Set(structures).size).toBe(structures.length);
  });
});

describe("variants by shape", () => {
  const withInput = (model: string, name: string, axis: number, value: number) => {
    const header = realHeader(model);
    const shape = [...(header[name] ?? [])];
    shape[axis] = value;
    return summary({ ...header, [name]: shape });
  };
  it.each([
    ["sd15", "input_blocks.0.0.weight", 1, 9, "inpaint"],
    ["sdxl", "input_blocks.0.0.weight", 1, 9, "inpaint"],
    ["sd15", "input_blocks.0.0.weight", 1, 8, "ip2p"],
    ["sd2", "input_blocks.0.0.weight", 1, 5, "depth"],
    ["flux-dev", "img_in.weight", 1, 384, "dev-fill"],
    ["flux-dev", "img_in.weight", 1, 128, "dev-control"],
  ])("%s with %s[%i] = %i is %s", (model, name, axis, value, variant) => {
    expect(withInput(model, name, axis, value).variant).toBe(variant);
  });

  it("finds a cut-down SDXL by its depths", () => {
    const header = Object.fromEntries(
      Object.entries(realHeader("sdxl")).filter(
        ([name]) => Number(/transformer_blocks\.(\d+)/.exec(name)?.[1] ?? 0) < 4 && !name.startsWith("middle_block.1"),
      ),
    );
    expect(summary(header)).toMatchObject({ family: "sdxl", variant: "ssd-1b" });
  });

  it("finds 3.5 medium by its second self-attention", () => {
    const header = realHeader("sd3-medium");
    for (let block = 0; block < 13; block += 1) header[`joint_blocks.${block}.x_block.attn2.qkv.weight`] = [4608, 1536];
    expect(summary(header)).toMatchObject({
      variant: "3.5-medium",
      config: { x_block_self_attn_layers: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] },
    });
  });

  it("takes a model of known layout and other widths for its family, and says so", () => {
    const shrink = (model: string, factor: number) =>
      Object.fromEntries(
        Object.entries(realHeader(model)).map(([name, shape]) => [
          name,
          shape.map((dim) => (dim > 9 ? Math.max(1, Math.round(dim / factor)) : dim)),
        ]),
      );
    expect(summary(shrink("sd15", 10))).toMatchObject({ family: "sd15", variant: "custom" });
    expect(summary(shrink("sdxl", 10))).toMatchObject({ family: "sdxl", variant: "custom" });
    expect(summary(shrink("sd2", 10))).toMatchObject({ family: "sd2", variant: "custom" });
    expect(summary(shrink("sdxl-refiner", 6)).family).toBe("sdxl-refiner");
  });
});

describe("models that no engine here runs", () => {
  it.each([
    ["HunyuanVideo", { ...realHeader("flux-dev"), "txt_in.individual_token_refiner.blocks.0.norm1.weight": [3072] }],
    ["Chroma", { ...realHeader("flux-dev"), "distilled_guidance_layer.in_proj.weight": [5120, 64] }],
    ["SD 2 unCLIP", { ...realHeader("sd2"), "label_emb.0.0.weight": [1280, 2048] }],
    ["a video UNet (Stable Video Diffusion)", { ...realHeader("sd15"), "input_blocks.1.0.time_stack.in_layers.0.weight": [320] }],
    ["AuraFlow", { "double_layers.0.attn.w1q.weight": [3072, 3072] }],
    ["PixArt or HunyuanDiT", { "t_block.1.weight": [6912, 1152] }],
    ["Qwen-Image", { "transformer_blocks.0.txt_norm1.weight": [3072] }],
    ["LTX-Video", { "adaln_single.emb.timestep_embedder.linear_1.weight": [2048, 256] }],
  ])("%s: CATALOG_UNSUPPORTED_MODEL", (name, header) => {
    const found = summary(header);
    expect(found.problem?.code).toBe("CATALOG_UNSUPPORTED_MODEL");
    expect(found.problem?.message).toContain(name);
    expect(found.family).toBeNull();
  });

  it("nothing known: CATALOG_UNKNOWN_ARCHITECTURE", () => {
    expect(summary({ "encoder.conv_in.weight": [128, 3, 3, 3] }).problem?.code).toBe("CATALOG_UNKNOWN_ARCHITECTURE");
    expect(summary({}).problem?.code).toBe("CATALOG_UNKNOWN_ARCHITECTURE");
  });

  it("a UNet with blocks missing is not given a family", () => {
    const header = Object.fromEntries(Object.entries(realHeader("sd15")).filter(([name]) => !name.startsWith("input_blocks.4.0.")));
    expect(summary(header)).toMatchObject({ family: null, problem: { code: "CATALOG_UNSUPPORTED_MODEL" } });
  });
});

describe("kind by header", () => {
  const lora = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": [4, 768],
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight": [320, 4],
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.alpha": [],
  };

  it("an adapter among checkpoints is an adapter, and a checkpoint among LoRAs is a checkpoint", () => {
    expect(summarize(tensors(lora), {}, "checkpoint")).toMatchObject({
      kind: "adapter",
      family: "sd15",
      kinds: ["lora"],
      tensors: 3,
      problem: null,
    });
    expect(summarize(tensors(realHeader("sd15")), {}, "adapter")).toMatchObject({ kind: "checkpoint", family: "sd15", problem: null });
  });

  it("finds every kind by its suffixes", () => {
    const kinds = (names: Record<string, number[]>) => {
      const found = summarize(tensors(names), {}, "adapter");
      return found.kind === "adapter" ? found.kinds : [];
    };
    expect(kinds({ "x.hada_w1_a": [1, 1], "x.hada_w1_b": [1, 1], "x.dora_scale": [1, 1] })).toEqual(["dora", "loha"]);
    expect(
      kinds({
        "x.lokr_w1": [1, 1],
        "y.a1.weight": [1, 1],
        "z.diff": [1],
        "n.w_norm": [1],
        "s.set_weight": [1],
        "i.on_input": [1],
        "i.weight": [1],
      }),
    ).toEqual(["diff", "glora", "ia3", "lokr", "norm", "set"]);
    expect(kinds({ "x.oft_blocks": [2, 3, 3] })).toEqual(["oft"]);
    expect(kinds({ "x.oft_blocks": [2, 2, 3, 3] })).toEqual(["boft"]);
    expect(
      kinds({
        "unet.a.lora_A.weight": [1, 1],
        "unet.a.lora_B.default.weight": [1, 1],
        "b_lora.up.weight": [1, 1],
        "b_lora.down.weight": [1, 1],
      }),
    ).toEqual(["lora"]);
  });

  it("neither: CATALOG_NOT_AN_ADAPTER in a LoRA folder", () => {
    expect(summarize(tensors({ emb_params: [8, 768] }), {}, "adapter")).toMatchObject({
      kind: "adapter",
      problem: { code: "CATALOG_NOT_AN_ADAPTER" },
    });
  });

  it("an adapter for another model: CATALOG_UNSUPPORTED_MODEL", () => {
    expect(
      summarize(
        tensors({
          "lora_unet_double_layers_0_attn_w1q.lora_up.weight": [4, 4],
          "lora_unet_double_layers_0_attn_w1q.lora_down.weight": [4, 4],
        }),
        {},
        "adapter",
      ),
    ).toMatchObject({ problem: { code: "CATALOG_UNSUPPORTED_MODEL" } });
  });
});

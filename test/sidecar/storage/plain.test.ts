import { describe, expect, test } from "vitest";
import { noNotes, plainTensors, type StorageNotes, type StoredTensors } from "../../../sidecar/src/storage/index.ts";

type Specs = Readonly<Record<string, readonly [dtype: string, ...shape: number[]]>>;
const tensors = (specs: Specs): StoredTensors =>
  new Map(Object.entries(specs).map(([name, [dtype, ...shape]]) => [name, { dtype, shape }])) as StoredTensors;
const described = (layers: Readonly<Record<string, unknown>>): StorageNotes => ({
  descriptions: new Map(Object.entries(layers).map(([stem, value]) => [stem, typeof value === "string" ? value : JSON.stringify(value)])),
  shapes: new Map(),
});
const storageOf = (specs: Specs, layer: unknown, metadata: Record<string, string> = {}) => {
  const plain = plainTensors(tensors(specs), metadata, layer === undefined ? noNotes : described({ x: layer }));
  return {
    storage: plain.tensors.get("x.weight")?.storage,
    shape: plain.tensors.get("x.weight")?.shape,
    refused: plain.refused.get("x.weight") ?? null,
    names: [...plain.tensors.keys()],
  };
};

describe("plainTensors", () => {
  test("helpers are no parameters, whatever the layout", () => {
    const specs: Specs = {
      "x.weight": ["F8_E4M3", 8, 16],
      "x.bias": ["BF16", 8],
      "x.weight_scale": ["F32"],
      "x.input_scale": ["F32"],
      "x.pre_quant_scale": ["F32", 16],
      "x.comfy_quant": ["U8", 27],
      "y.weight": ["F8_E5M2", 8, 16],
      "y.scale_weight": ["F32", 1],
      "y.scale_input": ["F32"],
      scaled_fp8: ["F8_E5M2", 0],
    };
    expect(storageOf(specs, { format: "float8_e4m3fn" })).toMatchObject({
      storage: { format: "scaled", scale: "x.weight_scale", columnScale: "x.pre_quant_scale" },
      names: ["x.weight", "x.bias", "y.weight"],
    });
  });

  test("a name like a helper's without a weight beside it stays a parameter", () => {
    expect(storageOf({ "x.weight_scale": ["F32", 4] }, undefined).names).toEqual(["x.weight_scale"]);
  });

  test("the header describes layers too, by their whole names", () => {
    const metadata = {
      _quantization_metadata: JSON.stringify({ layers: { x: { format: "int8_tensorwise", convrot: true, convrot_groupsize: 16 } } }),
    };
    expect(storageOf({ "x.weight": ["I8", 8, 32], "x.weight_scale": ["F32", 8, 1] }, undefined, metadata).storage).toEqual({
      format: "scaled",
      scale: "x.weight_scale",
      rotation: 16,
    });
  });

  test.each([
    [{ format: "int8_tensorwise", convrot: true }, 512, 256],
    [{ format: "int8_tensorwise", convrot: true }, 128, undefined],
    [{ format: "int8_tensorwise", params: { convrot: true, convrot_groupsize: 64 } }, 128, 64],
    [{ format: "int8_tensorwise", convrot: false }, 256, undefined],
  ])("rotation of %j on %d columns: %s", (layer, columns, rotation) => {
    const { storage } = storageOf({ "x.weight": ["I8", 8, columns], "x.weight_scale": ["F32", 8, 1] }, layer);
    expect(storage?.rotation).toBe(rotation);
  });

  test("packed columns count double", () => {
    expect(
      storageOf({ "x.weight": ["U8", 16, 8], "x.weight_scale": ["F8_E4M3", 128, 4], "x.weight_scale_2": ["F32"] }, { format: "nvfp4" }),
    ).toMatchObject({ storage: { format: "nvfp4", scale: "x.weight_scale", scale2: "x.weight_scale_2" }, shape: [16, 16] });
  });

  test.each([
    [
      "a format by its name",
      { "x.weight": ["I8", 8, 8], "x.weight_s_rel": ["F8_E4M3", 8] },
      { format: "asym_w4a8_int8" },
      "asym_w4a8_int8",
    ],
    ["convrot_w4a4", { "x.weight": ["I8", 8, 8], "x.weight_scale": ["F32", 8] }, { format: "convrot_w4a4" }, "convrot_w4a4"],
    ["awq_w4a16", { "x.weight": ["I8", 8, 8] }, { format: "awq_w4a16" }, "awq_w4a16"],
    ["a description that is no JSON", { "x.weight": ["F8_E4M3", 8, 8], "x.weight_scale": ["F32"] }, "{", "description"],
    ["int8 without a scale", { "x.weight": ["I8", 8, 8] }, undefined, "int8 weights without a scale"],
    ["packed integers without a description", { "x.weight": ["U8", 8, 8], "x.weight_scale": ["F8_E4M3", 8, 1] }, undefined, "U8 weights"],
    ["block-wise scales", { "x.weight": ["F8_E4M3", 256, 256], "x.weight_scale": ["F32", 2, 2] }, undefined, "block-wise"],
    [
      "nvfp4 scales that are not in tiles",
      { "x.weight": ["U8", 128, 64], "x.weight_scale": ["F8_E4M3", 16, 8], "x.weight_scale_2": ["F32"] },
      { format: "nvfp4" },
      "tiles",
    ],
    [
      "groups that no rotation has",
      { "x.weight": ["I8", 8, 96], "x.weight_scale": ["F32", 8, 1] },
      { format: "int8_tensorwise", convrot: true, convrot_groupsize: 32 },
      "groups of 32",
    ],
  ] as const)("%s is refused by name", (_, specs, layer, text) => {
    expect(storageOf(specs as unknown as Specs, layer).refused).toContain(text);
  });

  test.each([
    ["a.weight.quant_state.bitsandbytes__nf4", "bitsandbytes nf4"],
    ["a.qweight", "packed integers"],
    ["a.wscales", "svdquant"],
    ["a.qzeros", "awq or gptq"],
    ["a.weight_packed", "compressed-tensors"],
  ])("%s: %s", (key, format) => {
    expect(plainTensors(tensors({ [key]: ["U8", 4] }), {}, noNotes).refused.get(key)).toContain(format);
  });
});

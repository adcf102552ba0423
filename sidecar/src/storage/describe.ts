// From how a file describes a quantised layer to how its numbers become values. Pure.

import { elements } from "../terms/index.ts";
import { tiledBytes } from "./blocks.ts";
import type { Storage, StoredTensors } from "./types.ts";

/** What a layer's `comfy_quant` says, or the header's `_quantization_metadata` of it. */
export interface LayerDescription {
  readonly format: string;
  /** Group size of rotated rows; null: not rotated. */
  readonly rotation: number | null;
}

/** Columns of a group where the description names none (ComfyUI 0.33). */
const usualGroup = 256;

type Json = Readonly<Record<string, unknown>>;
const isObject = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value);

/** Reads a description. Null for a text that is none: the layer is then refused. */
export function parseDescription(value: unknown): LayerDescription | null {
  if (!isObject(value) || typeof value["format"] !== "string") return null;
  // Early files keep the numbers in `params`.
  const inner = isObject(value["params"]) ? value["params"] : {};
  const rotated = value["convrot"] ?? inner["convrot"] ?? false;
  const group = value["convrot_groupsize"] ?? inner["convrot_groupsize"] ?? usualGroup;
  return { format: value["format"], rotation: rotated === true ? (typeof group === "number" ? group : NaN) : null };
}

export function parseText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Descriptions of the header's `_quantization_metadata`, by layer. Throws nothing: a text that is no JSON describes nothing. */
export function metadataDescriptions(metadata: Readonly<Record<string, string>>): ReadonlyMap<string, unknown> {
  const text = metadata["_quantization_metadata"];
  const parsed = text === undefined ? null : parseText(text);
  const layers = isObject(parsed) ? parsed["layers"] : null;
  return new Map(isObject(layers) ? Object.entries(layers) : []);
}

export type LayerStorage = { readonly plain: true } | { readonly storage: Storage } | { readonly refused: string };

const refused = (reason: string): LayerStorage => ({ refused: reason });
const isFp8 = (dtype: string): boolean => dtype === "F8_E4M3" || dtype === "F8_E5M2";

/** How layer `stem` is stored; `description` null: the file has none for it. `shape` is the layer's own. */
export function layerStorage(tensors: StoredTensors, stem: string, description: LayerDescription | null): LayerStorage {
  const weight = tensors.get(`${stem}.weight`);
  if (weight === undefined) return { plain: true };
  const scale = [`${stem}.weight_scale`, `${stem}.scale_weight`].find((key) => tensors.has(key));
  const columnScale = tensors.has(`${stem}.pre_quant_scale`) ? { columnScale: `${stem}.pre_quant_scale` } : {};
  const scaleShape = scale === undefined ? null : (tensors.get(scale)?.shape ?? null);
  if (description === null) {
    if (!isFp8(weight.dtype) && weight.dtype !== "I8") {
      if (scale?.endsWith(".scale_weight") === true) return { storage: { format: "scaled", scale, ...columnScale } };
      return weight.dtype === "U8" || weight.dtype.startsWith("I") || weight.dtype.startsWith("U")
        ? refused(`${weight.dtype} weights without a description (comfy_quant)`)
        : { plain: true };
    }
    if (scale === undefined) return weight.dtype === "I8" ? refused("int8 weights without a scale") : { plain: true };
  }
  switch (description?.format ?? "scaled") {
    case "scaled":
    case "float8_e4m3fn":
    case "float8_e5m2":
    case "int8_tensorwise": {
      const whole =
        description?.format === "int8_tensorwise"
          ? weight.dtype === "I8"
          : isFp8(weight.dtype) || weight.dtype === "I8" || weight.dtype.includes("F");
      if (!whole) return refused(`${description?.format ?? "scaled"} in ${weight.dtype}`);
      if (scale === undefined || scaleShape === null)
        return weight.dtype === "I8" ? refused("int8 weights without a scale") : { plain: true };
      const rows = weight.shape[0] ?? 1;
      const scales = elements(scaleShape);
      // One number, or one a row with nothing behind it: everything else is a block-wise format.
      if (scales !== 1 && !(scales === rows && (scaleShape[0] ?? 1) === rows))
        return refused(`scales of the shape [${scaleShape.join(", ")}] (block-wise)`);
      const rotation = description?.rotation ?? null;
      if (rotation !== null && !isGroup(rotation)) return refused(`convrot with groups of ${rotation} columns`);
      // Rows that are no whole number of groups stay as they are.
      const turned = rotation !== null && weight.shape.length === 2 && (weight.shape[1] ?? 0) % rotation === 0 ? { rotation } : {};
      return { storage: { format: "scaled", scale, ...columnScale, ...turned } };
    }
    case "nvfp4": {
      const scale2 = `${stem}.weight_scale_2`;
      const block = scale === undefined ? null : tensors.get(scale);
      if (weight.dtype !== "U8" || weight.shape.length !== 2) return refused(`nvfp4 in ${weight.dtype} [${weight.shape.join(", ")}]`);
      if (scale === undefined || !tensors.has(scale2) || (block?.dtype !== "F8_E4M3" && block?.dtype !== "U8"))
        return refused("nvfp4 without its two scales");
      if (elements(block.shape) < tiledBytes(weight.shape[0] ?? 0, (weight.shape[1] ?? 0) / 8))
        return refused("nvfp4 whose block scales are not in tiles");
      return { storage: { format: "nvfp4", scale, scale2, ...columnScale } };
    }
    case "mxfp8": {
      const block = scale === undefined ? null : tensors.get(scale);
      if (weight.dtype !== "F8_E4M3" || weight.shape.length !== 2) return refused(`mxfp8 in ${weight.dtype} [${weight.shape.join(", ")}]`);
      if (scale === undefined || (block?.dtype !== "F8_E8M0" && block?.dtype !== "U8")) return refused("mxfp8 without its block scales");
      if (elements(block.shape) < tiledBytes(weight.shape[0] ?? 0, (weight.shape[1] ?? 0) / 32))
        return refused("mxfp8 whose block scales are not in tiles");
      return { storage: { format: "mxfp8", scale, ...columnScale } };
    }
    default:
      return refused(description?.format ?? "an unknown format");
  }
}

/** The rotation is a power of a 4 x 4 matrix. */
function isGroup(size: number): boolean {
  return Number.isInteger(size) && size >= 4 && size <= 65536 && Number.isInteger(Math.log2(size) / 2);
}

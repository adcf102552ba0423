// Family of an adapter from its keys and shapes alone, with the evidence. Table: docs/adapters.md, "Which family".

import type { Family } from "../../catalog/types.ts";
import { foreignKey } from "./foreign-keys.ts";
import { metadataFamilies } from "./metadata-hints.ts";
import { inputWidth } from "./input-width.ts";
import type { Parameters } from "./parameters.ts";
import { moduleName } from "./suffixes.ts";

export interface AdapterFamily {
  /** Null when names fit no known family, or several and nothing tells them apart. */
  readonly family: Family | null;
  /** What remains possible when `family` is null. */
  readonly candidates: readonly Family[];
  readonly evidence: readonly string[];
  /** A model that this program has no engine for, by name. */
  readonly unsupported: string | null;
}

const unetFamilies: readonly Family[] = ["sd15", "sd2", "sdxl", "sdxl-refiner"];

/** Input width of cross-attention keys and values = width of the text condition. */
const conditionWidths: ReadonlyMap<number, Family> = new Map([[768, "sd15"], [1024, "sd2"], [2048, "sdxl"], [1280, "sdxl-refiner"]]);

function found(family: Family, ...evidence: string[]): AdapterFamily {
  return { family, candidates: [family], evidence, unsupported: null };
}

function rejected(name: string, ...evidence: string[]): AdapterFamily {
  return { family: null, candidates: [], evidence, unsupported: name };
}

/** `shapes` are the tensors of the adapter's header; metadata only decides between families that the shapes leave open. */
export function detectAdapterFamily(shapes: Parameters, metadata: Readonly<Record<string, string>> = {}): AdapterFamily {
  const keys = [...shapes.keys()];
  const model = keys.filter((key) => foreignKey(key) === null);
  const first = (pattern: RegExp): string | undefined => model.find((key) => pattern.test(key));
  // Thousands of files are looked at in a row: a test that all their keys fail should be one test, and names that settle the matter come first.
  const other = first(anyOtherModel) === undefined ? undefined : otherModels.find(({ pattern }) => first(pattern) !== undefined);
  if (other) return rejected(other.name, `key ${first(other.pattern) ?? ""}`);
  const transformerOnly = first(/joint_blocks|single_(transformer_)?blocks|double_blocks|add_[qkv]_proj/) === undefined ? null : ofTransformer(shapes, first);
  if (transformerOnly !== null) return transformerOnly;
  const unetBlock = first(/(down|up|input|output)_blocks/);
  if (unetBlock === undefined) {
    const wan = first(/(^|\.|^lora_transformer_|(?<!transformer)_)blocks[._]\d+[._]((self|cross)_attn|ffn[._](0|2|net)|attn[12][._])/);
    if (wan !== undefined) return found("wan", `key ${wan}`, ...widthText(shapes, wan), ...(first(/k_img|add_k_proj/) === undefined ? [] : ["image cross-attention (2.1 i2v)"]));
    const transformer = first(/(?<!single_)transformer_blocks[._]\d+[._](attn|ff|norm1)[._]/);
    if (transformer !== undefined && first(/mid_block|middle_block/) === undefined) return transformerByWidth(shapes, transformer);
  }
  const unet = unetBlock ?? first(/mid_block|middle_block|time_embed|conv_(in|out)|proj_(in|out)/);
  if (unet !== undefined) return unetFamily(shapes, model, keys, metadata);
  return { family: null, candidates: metadataFamilies(metadata), evidence: [`no known block name among ${keys.length} keys`], unsupported: null };
}

/** SD3 and Flux by the blocks that only they have; null when a name only looked like theirs. */
function ofTransformer(shapes: Parameters, first: (pattern: RegExp) => string | undefined): AdapterFamily | null {
  const joint = first(/joint_blocks[._]\d/);
  const single = first(/single_(transformer_)?blocks[._]\d/);
  const addQ = first(/(?<!single_)transformer_blocks[._]\d+[._]attn[._]add_[qkv]_proj/);
  if (joint !== undefined) return found("sd3", `key ${joint}`, ...widthText(shapes, joint));
  if (single !== undefined || first(/double_blocks[._]\d/) !== undefined) return flux(shapes, single ?? first(/double_blocks[._]\d/) ?? "");
  if (addQ !== undefined) {
    const image = first(/img_mod|txt_mod[._]1/);
    return image === undefined ? transformerByWidth(shapes, addQ) : rejected("Qwen-Image", `key ${image}`);
  }
  return null;
}

const otherModels: readonly { readonly name: string; readonly pattern: RegExp }[] = [
  { name: "HunyuanVideo", pattern: /img_mod_linear|img_mod\.linear|txt_in_individual_token_refiner|txt_in\.individual_token_refiner|img_attn_qkv_fc|img_mlp_fc1/ },
  { name: "Chroma", pattern: /distilled_guidance_layer/ },
  { name: "Qwen-Image", pattern: /transformer_blocks[._]\d+[._](img|txt)_(mod|mlp)[._]/ },
  { name: "PixArt", pattern: /(^|[._])t_block[._]1|adaln_single/ },
  { name: "AuraFlow", pattern: /double_layers[._]\d+[._]attn[._]w1q/ },
];

const anyOtherModel = new RegExp(otherModels.map(({ pattern }) => pattern.source).join("|"));

function widthText(shapes: Parameters, key: string): string[] {
  const width = inputWidth(shapes, moduleName(key) ?? "");
  return width === null ? [] : [`input width ${width}`];
}

function flux(shapes: Parameters, key: string): AdapterFamily {
  return found("flux", `key ${key}`, ...widthText(shapes, key));
}

/** Transformer-block names that SD3 and Flux share: Flux is 3072 wide, SD3 1536 or 2432. */
function transformerByWidth(shapes: Parameters, key: string): AdapterFamily {
  const width = inputWidth(shapes, moduleName(key) ?? "");
  if (width === 3072) return found("flux", `key ${key}`, "input width 3072");
  if (width !== null) return found("sd3", `key ${key}`, `input width ${width}`);
  return { family: null, candidates: ["sd3", "flux"], evidence: [`key ${key}`, "no tensor tells the width"], unsupported: null };
}

function unetFamily(shapes: Parameters, model: readonly string[], keys: readonly string[], metadata: Readonly<Record<string, string>>): AdapterFamily {
  for (const key of model) {
    if (!/attn2[._](processor[._])?to_[kv](?![a-z])/.test(key)) continue;
    const width = inputWidth(shapes, moduleName(key) ?? "");
    const family = width === null ? undefined : conditionWidths.get(width);
    if (family) return found(family, `condition width ${width} in ${key}`);
  }
  for (const key of model) {
    const width = /attn1[._](processor[._])?to_[qkv](?![a-z])/.test(key) ? inputWidth(shapes, moduleName(key) ?? "") : null;
    if (width === 384 || width === 768 || width === 1536) return found("sdxl-refiner", `attention width ${width} in ${key}`);
  }
  const deep = model.find((key) => /transformer_blocks[._][1-9]/.test(key));
  if (deep !== undefined) return found("sdxl", `more than one transformer block per attention: ${deep}`);
  const secondEncoder = keys.find((key) => /^(lora_te2_|text_encoder_2\.)/.test(key));
  if (secondEncoder !== undefined) return found("sdxl", `two text encoders: ${secondEncoder}`);
  for (const key of keys) {
    const width = key.startsWith("lora_te_") && /mlp_fc1|[qkv]_proj/.test(key) ? inputWidth(shapes, moduleName(key) ?? "") : null;
    if (width === 768) return found("sd15", `text encoder width 768 in ${key}`);
    if (width === 1024) return found("sd2", `text encoder width 1024 in ${key}`);
  }
  const hinted = metadataFamilies(metadata).filter((family) => unetFamilies.includes(family));
  const only = hinted[0];
  if (hinted.length === 1 && only) return found(only, "UNet block names", "metadata names the base model");
  return { family: null, candidates: hinted.length > 0 ? hinted : unetFamilies, evidence: ["UNet block names", "no tensor tells the text condition's width"], unsupported: null };
}

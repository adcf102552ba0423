// Whole-file renames: three kinds of files whose keys are brought into a known spelling before anything is looked up.
// Source: ComfyUI 0.3.64 `comfy/lora_convert.py`; the wider triggers belong to extended mode.

import type { MergeMode } from "../../terms/index.ts";
import type { AdapterTensor, AdapterTensors } from "./tensors.ts";

export interface RenamedKeys {
  readonly tensors: AdapterTensors;
  /** Keys whose new name a later key took: the later one counts, as in the dictionary that ComfyUI makes. */
  readonly displaced: readonly string[];
}

export function renameKeys(tensors: AdapterTensors, mode: MergeMode): RenamedKeys {
  if (tensors.has("img_in.lora_A.weight") && tensors.has("single_blocks.0.norm.key_norm.scale")) return bflControl(tensors);
  if (tensors.has("lora_unet__blocks_0_cross_attn_k.lora_down.weight"))
    return renamed(tensors, (key) => key.replace(/^lora_unet__/, "lora_unet_"));
  const fullXlabs =
    tensors.has("single_blocks.37.processor.qkv_lora.up.weight") && tensors.has("double_blocks.18.processor.qkv_lora2.up.weight");
  if (fullXlabs) return renamed(tensors, xlabs);
  return mode === "extended" ? extended(tensors) : { tensors, displaced: [] };
}

function renamed(tensors: AdapterTensors, rename: (key: string) => string): { tensors: Map<string, AdapterTensor>; displaced: string[] } {
  const map = new Map<string, AdapterTensor>();
  const displaced: string[] = [];
  for (const [key, tensor] of tensors) {
    const name = rename(key);
    const earlier = map.get(name)?.key;
    if (earlier !== undefined && earlier !== null) displaced.push(earlier);
    map.set(name, tensor);
  }
  return { tensors: map, displaced };
}

const imageInputShape = "diffusion_model.img_in.reshape_weight";

/** Control adapters in the publisher's own names: norms are replaced, biases added, and the input projection grows to the control channels. */
function bflControl(tensors: AdapterTensors): RenamedKeys {
  const { tensors: map, displaced } = renamed(
    tensors,
    (key) => `diffusion_model.${key.replaceAll(".lora_B.bias", ".diff_b").replaceAll("_norm.scale", "_norm.scale.set_weight")}`,
  );
  const rows = tensors.get("img_in.lora_B.weight")?.shape[0];
  const columns = tensors.get("img_in.lora_A.weight")?.shape[1];
  if (rows === undefined || columns === undefined) return { tensors: map, displaced };
  const own = map.get(imageInputShape)?.key ?? null;
  map.set(imageInputShape, { key: null, dtype: "I64", shape: [2], numbers: [rows, columns] });
  return { tensors: map, displaced: own === null ? displaced : [...displaced, own] };
}

const xlabsParts: readonly (readonly [string, string])[] = [
  [".down.weight", ".lora_down.weight"],
  [".up.weight", ".lora_up.weight"],
  [".qkv_lora2.", ".txt_attn.qkv."],
  [".qkv_lora1.", ".img_attn.qkv."],
  [".proj_lora1.", ".img_attn.proj."],
  [".proj_lora2.", ".txt_attn.proj."],
  [".qkv_lora.", ".linear1_qkv."],
  [".proj_lora.", ".linear2."],
  [".processor.", "."],
];

const xlabs = (key: string): string => `diffusion_model.${xlabsParts.reduce((name, [from, to]) => name.replaceAll(from, to), key)}`;

/** Raw PEFT state dicts carry the adapter's name: `….lora_A.<name>.weight`, `….lora_magnitude_vector.<name>`. */
const peftAdapterName =
  /\.(lora_A|lora_B|lora_magnitude_vector|hada_w\d_[ab]|hada_t\d|lokr_w\d(?:_[ab])?|lokr_t2)(?:\.(?!weight$|bias$)([^.]+))?(\.weight)?$/;

/** `blocks.0.diff_m` is the difference of `blocks.0.modulation`, as Wan's tools extract it. */
const modulationDiff = (key: string): string => key.replace(/\.diff_m$/, ".modulation.diff");

function extended(tensors: AdapterTensors): RenamedKeys {
  const { tensors: map, displaced } = [...tensors.keys()].some((key) => key.endsWith(".diff_m"))
    ? renamed(tensors, modulationDiff)
    : { tensors, displaced: [] };
  const more = extendedSpellings(map);
  return { tensors: more.tensors, displaced: [...displaced, ...more.displaced] };
}

function extendedSpellings(tensors: AdapterTensors): RenamedKeys {
  const names = [...tensors.keys()];
  if (names.some((name) => /\.processor\.(qkv|proj)_lora[12]?\./.test(name)))
    return renamed(tensors, (key) => (/\.processor\.(qkv|proj)_lora/.test(key) ? xlabs(key) : key));
  if (names.some((name) => name.startsWith("lora_unet__"))) return renamed(tensors, (key) => key.replace(/^lora_unet__/, "lora_unet_"));
  const adapters = new Set(names.map((name) => peftAdapterName.exec(name)?.[2]).filter((name) => name !== undefined));
  if (adapters.size > 1) return { tensors, displaced: [] };
  return renamed(tensors, (key) =>
    key
      .replace(/\.lora_B\.[^.]+\.bias$/, ".lora_B.bias")
      .replace(peftAdapterName, (_match, part: string, _name: string | undefined, weight: string | undefined) =>
        part === "lora_A" || part === "lora_B" ? `.${part}${weight ?? ""}` : `.${part}`,
      ),
  );
}

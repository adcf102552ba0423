// Why a key was not consumed by any name of the key map.

import { foreignKey, kindSuffixes, moduleName, splitKey, type KeyMap, type MergeMode } from "../../terms/index.ts";

export interface IgnoredContext {
  readonly mode: MergeMode;
  readonly map: KeyMap;
  /** What extended mode would know; called only when something was ignored. */
  readonly extendedMap: () => KeyMap;
  readonly extendedName: (key: string) => string;
}

/** `name` is the key after whole-file renames. */
export function explainIgnored(key: string, name: string, context: IgnoredContext): string {
  const foreign = foreignKey(key);
  if (foreign !== null) return foreign;
  const known = splitKey(name).find(({ stem }) => context.map.has(stem));
  const reason = known ? explainSuffix(known.suffix, context.mode) : explainName(key, name, context);
  return name === key ? reason : `${reason} (read as ${name})`;
}

function explainSuffix(suffix: string, mode: MergeMode): string {
  const extended = mode === "comfyui";
  if (suffix === ".lora_magnitude_vector") return extended ? "ComfyUI ignores PEFT's DoRA magnitude and merges the LoRA plainly; extended mode applies it" : "a DoRA magnitude without a LoRA";
  if (suffix === ".weight" || suffix === ".on_input") return extended ? "ComfyUI has no IA3; extended mode merges it" : "an IA3 needs weight and on_input";
  if (suffix === ".b_norm") return "b_norm is read only beside w_norm";
  if (suffix === ".scalar") return "LyCORIS' scalar is not read by ComfyUI";
  if (kindSuffixes.lora.some((known) => known === suffix)) return "no matching up tensor beside it";
  return "incomplete module: the tensor that names its kind is missing";
}

function explainName(key: string, name: string, context: IgnoredContext): string {
  if (context.mode === "comfyui") {
    const extended = context.extendedMap();
    const candidates = [name, context.extendedName(key)];
    if (candidates.some((candidate) => splitKey(candidate).some(({ stem }) => extended.has(stem)))) return "ComfyUI does not know this spelling; extended mode reads it";
  }
  const rest = tensorOfModule(name, context.map);
  if (rest !== null) return `a tensor ${rest} of a known module: this kind is not supported`;
  return moduleName(name) === null ? "not an adapter tensor" : "the checkpoint has no module of this name";
}

/** What follows a module's name when no known suffix does (`oft_R.weight`, `bm.weight`, `ia3_l`). */
function tensorOfModule(name: string, map: KeyMap): string | null {
  for (let dot = name.lastIndexOf("."); dot > 0; dot = name.lastIndexOf(".", dot - 1)) if (map.has(name.slice(0, dot))) return name.slice(dot + 1);
  return null;
}

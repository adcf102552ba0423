// Why a key was not consumed by any name of the key map.

import { foreignKey, kindSuffixes, moduleName, splitKey, type KeyMap, type MergeMode } from "../../terms/index.ts";

export interface IgnoredContext {
  readonly mode: MergeMode;
  readonly map: KeyMap;
  /** What extended mode makes of the whole file; called only when something was ignored in the other mode. */
  readonly extended: () => { readonly used: ReadonlySet<string>; readonly failed: ReadonlyMap<string, string> };
  /** Whether the file (after renames) has a tensor of this name. */
  readonly has: (name: string) => boolean;
}

/** `name` is the key after whole-file renames. */
export function explainIgnored(key: string, name: string, context: IgnoredContext): string {
  const foreign = foreignKey(key);
  if (foreign !== null) return foreign;
  const known = splitKey(name).find(({ stem }) => context.map.has(stem));
  const reason = inExtendedMode(key, context) ?? (known ? explainSuffix(known.stem, known.suffix, context) : explainName(name, context));
  return name === key ? reason : `${reason} (read as ${name})`;
}

/** What extended mode does with a key that ComfyUI ignores; null where it ignores it too. Found out by trying, so that nothing is promised that it does not do. */
function inExtendedMode(key: string, { mode, extended, has }: IgnoredContext): string | null {
  if (mode !== "comfyui") return null;
  const { used, failed } = extended();
  if (used.has(key)) {
    if (key.includes(".lora_magnitude_vector"))
      return "ComfyUI ignores PEFT's DoRA magnitude and merges the LoRA plainly; extended mode applies it";
    if (key.endsWith(".on_input") || has(`${moduleName(key) ?? ""}.on_input`)) return "ComfyUI has no IA3; extended mode merges it";
    return "ComfyUI does not know this spelling; extended mode reads it";
  }
  const reason = failed.get(key);
  return reason === undefined ? null : `ComfyUI does not know this spelling; extended mode does, but cannot merge it either: ${reason}`;
}

const wholeWeight = "a whole weight of a model, not an adapter's change to one; merge models in the UI, or extract a LoRA from it";

function explainSuffix(stem: string, suffix: string, { has }: IgnoredContext): string {
  if (suffix === ".lora_magnitude_vector") return "a DoRA magnitude without a LoRA";
  if (suffix === ".weight") return has(`${stem}.on_input`) ? "an IA3 whose on_input is not one number" : wholeWeight;
  if (suffix === ".on_input") return "an IA3 needs weight and on_input";
  if (suffix === ".b_norm") return "b_norm is read only beside w_norm";
  if (suffix === ".scalar") return "LyCORIS' scalar is not read by ComfyUI";
  if (kindSuffixes.lora.some((known) => known === suffix)) return "no matching up tensor beside it";
  return "incomplete module: the tensor that names its kind is missing";
}

function explainName(name: string, context: IgnoredContext): string {
  const rest = tensorOfModule(name, context.map);
  if (rest !== null) return `a tensor ${rest} of a known module: this kind is not supported`;
  const stem = moduleName(name);
  if (stem === null) return "not an adapter tensor";
  return name.endsWith(".weight") && `${stem}.weight` === name && !context.has(`${stem}.on_input`)
    ? wholeWeight
    : "the checkpoint has no module of this name";
}

/** What follows a module's name when no known suffix does (`oft_R.weight`, `bm.weight`, `ia3_l`). */
function tensorOfModule(name: string, map: KeyMap): string | null {
  for (let dot = name.lastIndexOf("."); dot > 0; dot = name.lastIndexOf(".", dot - 1))
    if (map.has(name.slice(0, dot))) return name.slice(dot + 1);
  return null;
}

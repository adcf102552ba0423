// Adapter name → target, generated from a structure by rule. Never parsed: `_` for `.` loses information, so names are made from parameters and looked up.

import type { FamilyDescription, SpellingRow } from "@refit-sidecar/protocol";
import type { Family } from "../../catalog/types.ts";
import { descriptionOf, evaluate, namePairs, renamedBy, scopeOf, type NamePair, type Scope } from "../families/index.ts";
import type { Target } from "../types.ts";
import type { Parameters } from "./parameters.ts";
import { stemTarget, underscored } from "./stem.ts";
import { unetLayout } from "./unet-layout.ts";
import { unetStems } from "./unet-stems.ts";

/**
 * Iteration order matters: terms of one file are applied in it, and a later name for the same target replaces an earlier one.
 * Targets may name parameters that the structure lacks.
 */
export type KeyMap = ReadonlyMap<string, Target>;

type Named = [name: string, target: Target];

/** Prefixes that extended mode takes before a checkpoint's own names, whatever the family. */
const nativePrefixes = [
  "",
  "model.diffusion_model.",
  "base_model.model.",
  "base_model.model.diffusion_model.",
  "base_model.model.model.diffusion_model.",
  "unet.",
  "transformer.",
  "_orig_mod.",
];

/** The same before diffusers' module paths, where no description lists a family's own (UNets do). PEFT wraps whole pipelines or single modules. */
const diffusersPrefixes = [
  "",
  "transformer.",
  "base_model.model.",
  "base_model.model.transformer.",
  "diffusion_model.",
  "lycoris_",
  "lora_transformer_",
  "lora_unet_",
];

/** Diffusers module paths of a structure, and where diffusers keeps parameters that are no module's weight or bias. */
export function diffusersStems(family: Family, parameters: Parameters): readonly NamePair[] {
  const description = descriptionOf(family);
  if (description.layout !== "unet") return namePairs(description, scopeOf(description, parameters));
  const layout = unetLayout(new Set(parameters.keys()), family);
  return layout ? unetStems(layout) : [];
}

function spelled({ prefix, form }: SpellingRow, stem: string): string {
  if (form === "processor") return prefix + stem.replaceAll(".to_", ".processor.to_").replace(/\.to_out\.0$/, ".to_out");
  return prefix + (form === "flat" || (form === undefined && prefix.endsWith("_")) ? underscored(stem) : stem);
}

const withoutWeight = (parameter: string): string => (parameter.endsWith(".weight") ? parameter.slice(0, -".weight".length) : parameter);

/** Names that come from the parameters themselves, for every family: as this program writes them, and as a release that calls the parameter a module's weight does. */
function nativeNames(description: FamilyDescription, parameters: Parameters): Named[] {
  const modules = (description.checkpoint?.renames ?? []).filter(([from, to]) => from.endsWith(".weight") && !to.endsWith(".weight"));
  const names: Named[] = [];
  for (const parameter of parameters.keys()) {
    const module = modules.reduce<string | null>((found, [from, to]) => found ?? renamedBy(to, from, parameter), null);
    for (const name of module === null ? [parameter] : [module, parameter]) {
      if (name.endsWith(".weight")) names.push([`lora_unet_${underscored(withoutWeight(name))}`, { parameter }]);
      names.push([`diffusion_model.${withoutWeight(name)}`, { parameter }]);
    }
  }
  return names;
}

function pairTarget(pair: NamePair): Target {
  return pair.bare ? { parameter: pair.native } : stemTarget(pair);
}

/** The description's own spellings of one mode. Bare parameters have no module name: only extended mode spells them. */
function spelledNames(
  description: FamilyDescription,
  parameters: Parameters,
  pairs: readonly NamePair[],
  mode: "comfyui" | "extended",
): Named[] {
  const listed = description.spellings.filter((row) => (row.mode ?? "comfyui") === mode);
  const usual: readonly SpellingRow[] =
    mode === "extended" && description.layout === undefined ? diffusersPrefixes.map((prefix) => ({ prefix, names: "diffusers" })) : [];
  const rows = [...listed, ...usual];
  const names: Named[] = [];
  const native = rows.filter((row) => row.names === "native");
  if (native.length > 0)
    for (const parameter of parameters.keys())
      if (parameter.endsWith(".weight")) for (const row of native) names.push([spelled(row, withoutWeight(parameter)), { parameter }]);
  for (const pair of pairs) {
    if (pair.only === "files" || ((pair.bare === true || pair.only === "extended") && mode === "comfyui")) continue;
    for (const row of rows) if (row.names === "diffusers") names.push([spelled(row, pair.diffusers), pairTarget(pair)]);
  }
  return names;
}

/** What files of other releases call a parameter's module, where adapters use that name too. */
function fileNames(description: FamilyDescription, parameters: Parameters): Named[] {
  const rows = description.spellings.filter(({ names }) => names === "file");
  const renames = (description.checkpoint?.renames ?? []).filter((rename) => rename[2] === "adapters");
  if (rows.length === 0) return [];
  return [...parameters.keys()]
    .filter((parameter) => parameter.endsWith(".weight"))
    .flatMap((parameter) => {
      const name = renames.reduce<string | null>((found, [from, to]) => found ?? renamedBy(to, from, parameter), null) ?? parameter;
      return rows.map((row): Named => [spelled(row, withoutWeight(name)), { parameter }]);
    });
}

function extraNames(description: FamilyDescription, scope: Scope): Named[] {
  return (description.extra ?? []).flatMap(({ blocks, name, parameter, start, length }) => {
    const [from, rows] = [evaluate(start, scope), evaluate(length, scope)];
    if (typeof from !== "number" || typeof rows !== "number") return [];
    const count = blocks === undefined ? 1 : Number(scope.named(blocks) ?? 0);
    const at = (text: string, n: number): string => text.replaceAll("{n}", String(n));
    return Array.from({ length: count }, (_, n): Named => [
      at(name, n),
      { parameter: at(parameter, n), slice: { start: from, length: rows } },
    ]).filter(([, target]) => scope.shapes.has(target.parameter));
  });
}

/**
 * The key map of ComfyUI for a structure (source: ComfyUI 0.33.0 `comfy/lora.py` and the maps in `comfy/utils.py`; where 0.3.64 names more, its names too).
 * In extended mode the names that ComfyUI ignores come first, so that a name which ComfyUI knows wins where both are in a file.
 */
export function keyMap(family: Family, parameters: Parameters, mode: "comfyui" | "extended" = "comfyui"): KeyMap {
  const description = descriptionOf(family);
  const pairs = diffusersStems(family, parameters);
  const known = new Map<string, Target>([
    ...nativeNames(description, parameters),
    ...fileNames(description, parameters),
    ...spelledNames(description, parameters, pairs, "comfyui"),
    ...extraNames(description, scopeOf(description, parameters)),
  ]);
  if (mode === "comfyui") return known;
  const native = [...parameters.keys()].flatMap((parameter) =>
    nativePrefixes.map((prefix): Named => [prefix + withoutWeight(parameter), { parameter }]),
  );
  return new Map([
    ...[...native, ...spelledNames(description, parameters, pairs, "extended")].filter(([name]) => !known.has(name)),
    ...known,
  ]);
}

// Adapter name → target, generated from a structure by rule. Never parsed: `_` for `.` loses information, so names are made from parameters and looked up.

import type { Family } from "../../catalog/types.ts";
import type { Target } from "../types.ts";
import { extendedNames } from "./extended-names.ts";
import { fluxStemsOf, fluxWidth } from "./flux-stems.ts";
import { countIndices, type Parameters } from "./parameters.ts";
import { sd3Depth, sd3Stems } from "./sd3-stems.ts";
import { stemTarget, underscored, type StemPair } from "./stem.ts";
import { unetLayout } from "./unet-layout.ts";
import { unetStems } from "./unet-stems.ts";
import { wanStems } from "./wan-stems.ts";

/**
 * Iteration order matters: terms of one file are applied in it, and a later name for the same target replaces an earlier one.
 * Targets may name parameters that the structure lacks.
 */
export type KeyMap = ReadonlyMap<string, Target>;

/** Diffusers module paths of a structure. */
export function diffusersStems(family: Family, parameters: Parameters): readonly StemPair[] {
  switch (family) {
    case "sd15":
    case "sd2":
    case "sdxl":
    case "sdxl-refiner": {
      const layout = unetLayout(new Set(parameters.keys()), family);
      return layout ? unetStems(layout) : [];
    }
    case "flux":
      return fluxStemsOf(parameters);
    case "sd3":
      return sd3Stems(sd3Depth(parameters));
    case "wan":
      return wanStems(countIndices(parameters.keys(), "blocks."));
  }
}

/** The adapter names of one diffusers stem that ComfyUI knows. */
function comfyNames(family: Family, stem: string): string[] {
  const flat = underscored(stem);
  switch (family) {
    case "sd15":
    case "sd2":
    case "sdxl":
    case "sdxl-refiner": {
      const processor = stem.replaceAll(".to_", ".processor.to_").replace(/\.to_out\.0$/, ".to_out");
      return [`lora_unet_${flat}`, `lycoris_${flat}`, processor, `unet.${processor}`];
    }
    case "flux":
      return [`transformer.${stem}`, `lycoris_${flat}`, `lora_transformer_${flat}`];
    case "sd3":
      return [`transformer.${stem}`, `base_model.model.${stem}`, `lora_transformer_${flat}`, `lycoris_${flat}`];
    case "wan":
      return [];
  }
}

/** Names that come from the parameters themselves, for every family. */
function nativeNames(parameters: Parameters): [string, Target][] {
  const names: [string, Target][] = [];
  for (const parameter of parameters.keys()) {
    if (parameter.endsWith(".weight")) {
      const stem = parameter.slice(0, -".weight".length);
      names.push([`lora_unet_${underscored(stem)}`, { parameter }], [`diffusion_model.${stem}`, { parameter }]);
    } else {
      names.push([`diffusion_model.${parameter}`, { parameter }]);
    }
  }
  return names;
}

/** Rows of Flux' fused single-block projection that files from XLabs call `linear1_qkv`. */
function fluxQkvNames(parameters: Parameters): [string, Target][] {
  const width = fluxWidth(parameters);
  const names: [string, Target][] = [];
  for (const parameter of parameters.keys()) {
    const stem = /^(single_blocks\.\d+\.linear1)\.weight$/.exec(parameter)?.[1];
    if (stem !== undefined && width !== null) names.push([`diffusion_model.${stem}_qkv`, { parameter, slice: { start: 0, length: 3 * width } }]);
  }
  return names;
}

/**
 * The key map of ComfyUI for a structure (source: ComfyUI 0.3.64 `comfy/lora.py` and the maps in `comfy/utils.py`).
 * In extended mode the names that ComfyUI ignores come first, so that a name which ComfyUI knows wins where both are in a file.
 */
export function keyMap(family: Family, parameters: Parameters, mode: "comfyui" | "extended" = "comfyui"): KeyMap {
  const stems = diffusersStems(family, parameters);
  const known = new Map<string, Target>(nativeNames(parameters));
  for (const pair of stems) {
    const target = stemTarget(pair);
    for (const name of comfyNames(family, pair.diffusers)) known.set(name, target);
  }
  if (family === "flux") for (const [name, target] of fluxQkvNames(parameters)) known.set(name, target);
  if (mode === "comfyui") return known;
  return new Map([...extendedNames(family, parameters, stems).filter(([name]) => !known.has(name)), ...known]);
}

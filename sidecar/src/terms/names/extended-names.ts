// Adapter names that files in the wild carry and ComfyUI ignores (extended mode). Table: docs/adapters.md, "Extended mode".

import type { Family } from "../../catalog/types.ts";
import type { Target } from "../types.ts";
import { countIndices, type Parameters } from "./parameters.ts";
import { stemTarget, underscored, type StemPair } from "./stem.ts";
import { wanBareParameters } from "./wan-stems.ts";

/** Prefixes in front of a checkpoint's own names. */
const nativePrefixes = ["", "model.diffusion_model.", "base_model.model.", "base_model.model.diffusion_model.", "base_model.model.model.diffusion_model."];

/** Prefixes in front of diffusers module paths. PEFT wraps whole pipelines or single modules. */
const diffusersPrefixes: Readonly<Record<Family, readonly string[]>> = {
  sd15: ["", "unet.", "base_model.model.", "base_model.model.unet."],
  sd2: ["", "unet.", "base_model.model.", "base_model.model.unet."],
  sdxl: ["", "unet.", "base_model.model.", "base_model.model.unet."],
  "sdxl-refiner": ["", "unet.", "base_model.model.", "base_model.model.unet."],
  sd3: ["", "base_model.model.transformer."],
  flux: ["", "base_model.model.", "base_model.model.transformer."],
  wan: ["", "transformer.", "base_model.model.", "base_model.model.transformer."],
};

export function extendedNames(family: Family, parameters: Parameters, stems: readonly StemPair[]): [string, Target][] {
  const names: [string, Target][] = [];
  for (const parameter of parameters.keys()) {
    const stem = parameter.endsWith(".weight") ? parameter.slice(0, -".weight".length) : parameter;
    for (const prefix of nativePrefixes) names.push([prefix + stem, { parameter }]);
  }
  const bare = family === "wan" ? wanBareParameters(countIndices(parameters.keys(), "blocks.")) : [];
  for (const prefix of diffusersPrefixes[family]) {
    for (const pair of stems) names.push([prefix + pair.diffusers, stemTarget(pair)]);
    for (const [diffusers, parameter] of bare) names.push([prefix + diffusers, { parameter }]);
  }
  if (family === "wan") {
    for (const pair of stems) {
      const flat = underscored(pair.diffusers);
      for (const prefix of ["lycoris_", "lora_transformer_", "lora_unet_"]) names.push([prefix + flat, stemTarget(pair)]);
    }
  }
  return names;
}

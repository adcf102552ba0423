// What trainers write about the base model. Strings by anyone: hints that never override shapes and never change the arithmetic.

import type { Family } from "../../catalog/types.ts";

/** Prefix of a metadata value → families it leaves. Longest prefix first. */
const architectures: readonly (readonly [string, readonly Family[]])[] = [
  ["stable-diffusion-xl-v1-refiner", ["sdxl-refiner"]],
  ["stable-diffusion-xl", ["sdxl"]],
  ["stable-diffusion-v1", ["sd15"]],
  ["stable-diffusion-v2", ["sd2"]],
  ["stable-diffusion-3", ["sd3"]],
  ["flux-1", ["flux"]],
  ["wan", ["wan"]],
];

const baseVersions: readonly (readonly [string, readonly Family[]])[] = [
  ["sdxl_refiner", ["sdxl-refiner"]],
  ["sdxl", ["sdxl"]],
  ["sd_v1", ["sd15"]],
  ["sd_v2", ["sd2"]],
  ["sd3", ["sd3"]],
  ["flux1", ["flux"]],
  ["wan", ["wan"]],
];

const lookUp = (table: typeof architectures, value: string | undefined): readonly Family[] =>
  value === undefined ? [] : (table.find(([prefix]) => value.toLowerCase().startsWith(prefix))?.[1] ?? []);

/** Families that the metadata names; empty when it names none that is known. */
export function metadataFamilies(metadata: Readonly<Record<string, string>>): readonly Family[] {
  const named = lookUp(architectures, metadata["modelspec.architecture"]);
  if (named.length > 0) return named;
  if (metadata["modelspec.implementation"]?.includes("black-forest-labs/flux")) return ["flux"];
  const version = lookUp(baseVersions, metadata["ss_base_model_version"]);
  if (version.length > 0) return version;
  if (metadata["ss_v2"] === "True") return ["sd2"];
  return [];
}

/** Metadata fields worth showing to a user, in this order. */
const shownFields = [
  "modelspec.architecture", "modelspec.implementation", "modelspec.title", "ss_base_model_version", "ss_sd_model_name", "ss_v2", "ss_network_module",
  "ss_network_args", "ss_network_dim", "ss_network_alpha", "ss_output_name", "sshs_model_hash", "lora_adapter_metadata", "format",
];

/** Base hints present in a file, values cut to a line. */
export function metadataHints(metadata: Readonly<Record<string, string>>): Record<string, string> {
  const hints: Record<string, string> = {};
  for (const field of shownFields) {
    const value = metadata[field];
    if (value !== undefined) hints[field] = value.length > 200 ? `${value.slice(0, 199)}…` : value;
  }
  return hints;
}

/** A `.trt_lora` of TensorRT-Redux, by the four fields that its exporter writes (public source of sloptimize/TensorRT-Redux, `nodes/export_lora.py`): whole modified weights, not an adapter's factors. */
export function isReduxFile(metadata: Readonly<Record<string, string>>): boolean {
  return ["base_engine", "lora_file", "lora_strength", "num_deltas"].every((field) => metadata[field] !== undefined);
}

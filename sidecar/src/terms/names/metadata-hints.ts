// What trainers write about the base model. Strings by anyone: hints that never override shapes and never change the arithmetic.

import { familyTable, type Family } from "@refit-sidecar/protocol";

type HintKind = "architectures" | "implementations" | "baseVersions";

/** Beginnings of a metadata value and the family that each names (protocol/families), longest first. */
const table = (kind: HintKind): readonly (readonly [beginning: string, family: Family])[] =>
  familyTable
    .flatMap(({ family, hints }) => (hints?.[kind] ?? []).map((beginning) => [beginning, family as Family] as const))
    .sort(([one], [other]) => other.length - one.length);

const [architectures, implementations, baseVersions] = [table("architectures"), table("implementations"), table("baseVersions")];

function lookUp(
  names: typeof architectures,
  value: string | undefined,
  fits: (value: string, beginning: string) => boolean = (text, beginning) => text.startsWith(beginning),
): readonly Family[] {
  const found = value === undefined ? undefined : names.find(([beginning]) => fits(value.toLowerCase(), beginning));
  return found === undefined ? [] : [found[1]];
}

/** Families that the metadata names; empty when it names none that is known. */
export function metadataFamilies(metadata: Readonly<Record<string, string>>): readonly Family[] {
  const named = lookUp(architectures, metadata["modelspec.architecture"]);
  if (named.length > 0) return named;
  const implemented = lookUp(implementations, metadata["modelspec.implementation"], (value, part) => value.includes(part));
  if (implemented.length > 0) return implemented;
  const version = lookUp(baseVersions, metadata["ss_base_model_version"]);
  if (version.length > 0) return version;
  if (metadata["ss_v2"] === "True") return ["sd2"];
  return [];
}

/** Metadata fields worth showing to a user, in this order. */
const shownFields = [
  "modelspec.architecture",
  "modelspec.implementation",
  "modelspec.title",
  "ss_base_model_version",
  "ss_sd_model_name",
  "ss_v2",
  "ss_network_module",
  "ss_network_args",
  "ss_network_dim",
  "ss_network_alpha",
  "ss_output_name",
  "sshs_model_hash",
  "lora_adapter_metadata",
  "format",
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

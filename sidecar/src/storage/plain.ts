// A checkpoint's tensors as a plain checkpoint would have them: helpers of quantised storage set aside, packed and padded shapes restored. Pure.

import { layerStorage, metadataDescriptions, parseDescription, parseText, type LayerDescription } from "./describe.ts";
import { foreignFormat } from "./foreign-format.ts";
import type { Storage, StorageNotes, StoredTensors } from "./types.ts";
import type { Dtype } from "@refit-sidecar/native";

export interface PlainTensor {
  /** Of the file's tensor. */
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly storage?: Storage;
}

export interface PlainTensors {
  readonly tensors: ReadonlyMap<string, PlainTensor>;
  /** Tensors that only serve storage: no parameters, never part of a structure. */
  readonly helpers: ReadonlySet<string>;
  /** Why a tensor cannot be read, by its key: the name of a format, for people. */
  readonly refused: ReadonlyMap<string, string>;
}

const helperSuffixes = [
  ".weight_scale",
  ".weight_scale_2",
  ".input_scale",
  ".pre_quant_scale",
  ".comfy_quant",
  ".scale_weight",
  ".scale_input",
] as const;
const marker = "scaled_fp8";

/** Dtypes of the container that no parameter of a model can have here: they are codes of formats that keep their scales elsewhere, or no real numbers. */
const withoutNumbers: ReadonlySet<Dtype> = new Set(["F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F6_E2M3", "F6_E3M2", "F4", "C64"]);

/** X of a helper's key `X.weight_scale`, …; null for any other key. */
export function helperStem(key: string): string | null {
  const suffix = helperSuffixes.find((candidate) => key.endsWith(candidate));
  return suffix === undefined ? null : key.slice(0, -suffix.length);
}

/** Whether `key` is the marker of the retired scaled fp8 for the model that `weight` belongs to. */
export function isMarkerOf(key: string, weight: string): boolean {
  return (key === marker || key.endsWith(`.${marker}`)) && weight.startsWith(key.slice(0, -marker.length));
}

/** Whether `notes` must be read before these tensors can be understood. */
export function needsNotes(tensors: StoredTensors, metadata: Readonly<Record<string, string>>): boolean {
  if (metadata["_quantization_metadata"] !== undefined) return true;
  for (const key of tensors.keys()) if (key.endsWith(".comfy_quant")) return true;
  return false;
}

/** Descriptions of layers, from the tensors beside them or from the header. */
export function layerDescriptions(
  tensors: StoredTensors,
  metadata: Readonly<Record<string, string>>,
  notes: StorageNotes,
): ReadonlyMap<string, LayerDescription | null> {
  const found = new Map<string, LayerDescription | null>();
  for (const [layer, value] of metadataDescriptions(metadata)) {
    const stem = [layer, `model.diffusion_model.${layer}`].find((candidate) => tensors.has(`${candidate}.weight`));
    if (stem !== undefined) found.set(stem, parseDescription(value));
  }
  for (const [stem, text] of notes.descriptions) found.set(stem, parseDescription(parseText(text)));
  return found;
}

/** Throws nothing: what cannot be read is in `refused`. */
export function plainTensors(tensors: StoredTensors, metadata: Readonly<Record<string, string>>, notes: StorageNotes): PlainTensors {
  const descriptions = layerDescriptions(tensors, metadata, notes);
  const helpers = new Set<string>();
  const stems = new Set<string>(descriptions.keys());
  const refused = new Map<string, string>();
  for (const [key, { dtype }] of tensors) {
    const stem = helperStem(key);
    if (stem !== null && tensors.has(`${stem}.weight`)) {
      helpers.add(key);
      stems.add(stem);
    } else if (key === marker || key.endsWith(`.${marker}`)) {
      helpers.add(key);
    } else {
      const foreign = foreignFormat(key) ?? (withoutNumbers.has(dtype) ? dtype : null);
      if (foreign !== null) refused.set(key, foreign);
      else if (key.endsWith(".weight") && (dtype === "U8" || dtype === "I8")) stems.add(key.slice(0, -".weight".length));
    }
  }
  const plain = new Map<string, PlainTensor>();
  for (const [key, { dtype, shape }] of tensors) {
    if (helpers.has(key)) continue;
    const stem = key.endsWith(".weight") ? key.slice(0, -".weight".length) : null;
    if (stem === null || !stems.has(stem)) {
      plain.set(key, { dtype, shape });
      continue;
    }
    const description = descriptions.get(stem);
    const stored =
      description === null
        ? { refused: "a comfy_quant description that cannot be read" }
        : layerStorage(tensors, stem, description ?? null);
    if ("refused" in stored) refused.set(key, stored.refused);
    const storage = "storage" in stored ? { storage: stored.storage } : {};
    plain.set(key, { dtype, shape: notes.shapes.get(key) ?? unpacked(shape, storage.storage), ...storage });
  }
  return { tensors: plain, helpers, refused };
}

/** nvfp4 keeps two columns a byte. */
function unpacked(shape: readonly number[], storage: Storage | undefined): readonly number[] {
  return storage?.format === "nvfp4" ? [shape[0] ?? 0, (shape[1] ?? 0) * 2] : shape;
}

// Small structures and adapters for tests of names and shapes; values do not matter here.

import type { Dtype } from "@refit-sidecar/native";
import type { Family } from "../../../sidecar/src/catalog/types.ts";
import { recogniseAdapter, type RecognisedAdapter } from "../../../sidecar/src/delta/index.ts";
import type { MergeMode, Parameters } from "../../../sidecar/src/terms/index.ts";

export const sd15: Parameters = new Map([
  ["input_blocks.0.0.weight", [16, 4, 3, 3]],
  ["input_blocks.1.0.in_layers.0.weight", [16]],
  ["input_blocks.1.0.in_layers.0.bias", [16]],
  ["input_blocks.1.0.in_layers.2.weight", [16, 16, 3, 3]],
  ["input_blocks.1.0.in_layers.2.bias", [16]],
  ["input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight", [16, 16]],
  ["input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", [16, 24]],
  ["input_blocks.1.1.proj_in.weight", [16, 16, 1, 1]],
]);

export const flux: Parameters = new Map([
  ["img_in.weight", [32, 16]],
  ["double_blocks.0.img_attn.qkv.weight", [96, 32]],
  ["double_blocks.0.img_attn.qkv.bias", [96]],
  ["double_blocks.0.img_attn.proj.weight", [32, 32]],
  ["single_blocks.0.linear1.weight", [224, 32]],
]);

export const wan: Parameters = new Map([
  ["blocks.0.self_attn.q.weight", [32, 32]],
  ["blocks.0.cross_attn.k.weight", [32, 32]],
  ["blocks.0.ffn.0.weight", [48, 32]],
  ["blocks.0.norm3.weight", [32]],
  ["blocks.0.modulation", [1, 6, 32]],
]);

type Given = readonly number[] | { readonly shape: readonly number[]; readonly dtype?: Dtype; readonly numbers?: readonly number[] };

/** Tensors by key; a bare list is the shape of an f32 tensor. */
export function recognise(
  family: Family,
  parameters: Parameters,
  tensors: Readonly<Record<string, Given>>,
  mode: MergeMode = "comfyui",
  metadata: Record<string, string> = {},
): RecognisedAdapter {
  const entries = Object.entries(tensors).map(([key, given]) => {
    const full = "shape" in given ? given : { shape: given };
    return [
      key,
      { key, dtype: full.dtype ?? ("F32" as const), shape: full.shape, ...(full.numbers ? { numbers: full.numbers } : {}) },
    ] as const;
  });
  return recogniseAdapter({ tensors: new Map(entries), metadata, family, parameters, mode });
}

export const alpha = (value: number): Given => ({ shape: [], numbers: [value] });

export const reasonOf = (entries: readonly { readonly key: string; readonly reason: string }[], key: string): string =>
  entries.find((entry) => entry.key === key)?.reason ?? "not listed";

// Diffusers module paths of a Flux transformer and their checkpoint names. Fused parameters are addressed by rows.

import { countIndices, type Parameters } from "./parameters.ts";
import type { StemPair } from "./stem.ts";

const outside: readonly StemPair[] = [
  { diffusers: "x_embedder", native: "img_in" },
  { diffusers: "context_embedder", native: "txt_in" },
  { diffusers: "time_text_embed.timestep_embedder.linear_1", native: "time_in.in_layer" },
  { diffusers: "time_text_embed.timestep_embedder.linear_2", native: "time_in.out_layer" },
  { diffusers: "time_text_embed.text_embedder.linear_1", native: "vector_in.in_layer" },
  { diffusers: "time_text_embed.text_embedder.linear_2", native: "vector_in.out_layer" },
  { diffusers: "time_text_embed.guidance_embedder.linear_1", native: "guidance_in.in_layer" },
  { diffusers: "time_text_embed.guidance_embedder.linear_2", native: "guidance_in.out_layer" },
  { diffusers: "norm_out.linear", native: "final_layer.adaLN_modulation.1", swapHalves: true },
  { diffusers: "proj_out", native: "final_layer.linear" },
  { diffusers: "controlnet_x_embedder", native: "pos_embed_input" },
];

/** Parameters that show the model's width: pattern and dimension. A partial file may hold any one of them. */
const widthWitnesses: readonly (readonly [RegExp, number])[] = [
  [/^double_blocks\.\d+\.(img|txt)_attn\.proj\.weight$/, 0],
  [/^double_blocks\.\d+\.(img|txt)_attn\.qkv\.weight$/, 1],
  [/^single_blocks\.\d+\.linear1\.weight$/, 1],
  [/^single_blocks\.\d+\.linear2\.weight$/, 0],
];

/** Null when the structure has no attention block. */
export function fluxWidth(parameters: Parameters): number | null {
  for (const [pattern, dim] of widthWitnesses) {
    for (const [name, shape] of parameters) if (pattern.test(name)) return shape[dim] ?? null;
  }
  return null;
}

export function fluxStems(doubleBlocks: number, singleBlocks: number, width: number): StemPair[] {
  const rows = (diffusers: string, native: string, part: number, parts = 1): StemPair => ({ diffusers, native, slice: { start: part * width, length: parts * width } });
  const pairs: StemPair[] = [];
  for (let n = 0; n < doubleBlocks; n += 1) {
    const d = `transformer_blocks.${n}`;
    const block = `double_blocks.${n}`;
    (["q", "k", "v"] as const).forEach((name, part) => {
      pairs.push(rows(`${d}.attn.to_${name}`, `${block}.img_attn.qkv`, part));
      pairs.push(rows(`${d}.attn.add_${name}_proj`, `${block}.txt_attn.qkv`, part));
    });
    pairs.push(
      { diffusers: `${d}.attn.to_out.0`, native: `${block}.img_attn.proj` },
      { diffusers: `${d}.attn.to_add_out`, native: `${block}.txt_attn.proj` },
      { diffusers: `${d}.norm1.linear`, native: `${block}.img_mod.lin` },
      { diffusers: `${d}.norm1_context.linear`, native: `${block}.txt_mod.lin` },
      { diffusers: `${d}.ff.net.0.proj`, native: `${block}.img_mlp.0` },
      { diffusers: `${d}.ff.net.2`, native: `${block}.img_mlp.2` },
      { diffusers: `${d}.ff_context.net.0.proj`, native: `${block}.txt_mlp.0` },
      { diffusers: `${d}.ff_context.net.2`, native: `${block}.txt_mlp.2` },
      { diffusers: `${d}.attn.norm_q`, native: `${block}.img_attn.norm.query_norm`, nativeSuffix: ".scale" },
      { diffusers: `${d}.attn.norm_k`, native: `${block}.img_attn.norm.key_norm`, nativeSuffix: ".scale" },
      { diffusers: `${d}.attn.norm_added_q`, native: `${block}.txt_attn.norm.query_norm`, nativeSuffix: ".scale" },
      { diffusers: `${d}.attn.norm_added_k`, native: `${block}.txt_attn.norm.key_norm`, nativeSuffix: ".scale" },
    );
  }
  for (let n = 0; n < singleBlocks; n += 1) {
    const d = `single_transformer_blocks.${n}`;
    const block = `single_blocks.${n}`;
    (["q", "k", "v"] as const).forEach((name, part) => pairs.push(rows(`${d}.attn.to_${name}`, `${block}.linear1`, part)));
    pairs.push(
      rows(`${d}.proj_mlp`, `${block}.linear1`, 3, 4),
      { diffusers: `${d}.proj_out`, native: `${block}.linear2` },
      { diffusers: `${d}.norm.linear`, native: `${block}.modulation.lin` },
      { diffusers: `${d}.attn.norm_q`, native: `${block}.norm.query_norm`, nativeSuffix: ".scale" },
      { diffusers: `${d}.attn.norm_k`, native: `${block}.norm.key_norm`, nativeSuffix: ".scale" },
    );
  }
  return [...pairs, ...outside];
}

/** Stems of a structure in checkpoint names. */
export function fluxStemsOf(parameters: Parameters): StemPair[] {
  const width = fluxWidth(parameters);
  if (width === null) return [];
  return fluxStems(countIndices(parameters.keys(), "double_blocks."), countIndices(parameters.keys(), "single_blocks."), width);
}

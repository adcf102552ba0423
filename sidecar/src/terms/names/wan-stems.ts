// Diffusers module paths of a Wan transformer and their checkpoint names (ComfyUI's map has none: extended mode and diffusers-format files).

import type { StemPair } from "./stem.ts";

const block: readonly (readonly [string, string])[] = [
  ["attn1.to_q", "self_attn.q"],
  ["attn1.to_k", "self_attn.k"],
  ["attn1.to_v", "self_attn.v"],
  ["attn2.to_q", "cross_attn.q"],
  ["attn2.to_k", "cross_attn.k"],
  ["attn2.to_v", "cross_attn.v"],
  ["attn1.to_out.0", "self_attn.o"],
  ["attn2.to_out.0", "cross_attn.o"],
  ["attn1.norm_q", "self_attn.norm_q"],
  ["attn1.norm_k", "self_attn.norm_k"],
  ["attn2.norm_q", "cross_attn.norm_q"],
  ["attn2.norm_k", "cross_attn.norm_k"],
  ["attn2.add_k_proj", "cross_attn.k_img"],
  ["attn2.add_v_proj", "cross_attn.v_img"],
  ["attn2.norm_added_k", "cross_attn.norm_k_img"],
  ["ffn.net.0.proj", "ffn.0"],
  ["ffn.net.2", "ffn.2"],
  // diffusers numbers the norms by use: its second is the one before cross attention, the checkpoint's third.
  ["norm2", "norm3"],
];

const outside: readonly StemPair[] = [
  { diffusers: "patch_embedding", native: "patch_embedding" },
  { diffusers: "condition_embedder.time_embedder.linear_1", native: "time_embedding.0" },
  { diffusers: "condition_embedder.time_embedder.linear_2", native: "time_embedding.2" },
  { diffusers: "condition_embedder.text_embedder.linear_1", native: "text_embedding.0" },
  { diffusers: "condition_embedder.text_embedder.linear_2", native: "text_embedding.2" },
  { diffusers: "condition_embedder.time_proj", native: "time_projection.1" },
  { diffusers: "condition_embedder.image_embedder.norm1", native: "img_emb.proj.0" },
  { diffusers: "condition_embedder.image_embedder.ff.net.0.proj", native: "img_emb.proj.1" },
  { diffusers: "condition_embedder.image_embedder.ff.net.2", native: "img_emb.proj.3" },
  { diffusers: "condition_embedder.image_embedder.norm2", native: "img_emb.proj.4" },
  { diffusers: "proj_out", native: "head.head" },
];

/** Parameters that are no module's weight or bias: diffusers name, checkpoint name. */
export function wanBareParameters(blocks: number): (readonly [string, string])[] {
  return [
    ...Array.from({ length: blocks }, (_, n) => [`blocks.${n}.scale_shift_table`, `blocks.${n}.modulation`] as const),
    ["scale_shift_table", "head.modulation"],
    ["condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos"],
  ];
}

export function wanStems(blocks: number): StemPair[] {
  const pairs: StemPair[] = [];
  for (let n = 0; n < blocks; n += 1) {
    for (const [d, native] of block) pairs.push({ diffusers: `blocks.${n}.${d}`, native: `blocks.${n}.${native}` });
  }
  return [...pairs, ...outside];
}

// Diffusers module paths of an SD3 / SD3.5 transformer and their checkpoint names. Fused qkv is addressed by rows.

import type { Parameters } from "./parameters.ts";
import type { StemPair } from "./stem.ts";

const outside: readonly StemPair[] = [
  { diffusers: "context_embedder", native: "context_embedder" },
  { diffusers: "time_text_embed.timestep_embedder.linear_1", native: "t_embedder.mlp.0" },
  { diffusers: "time_text_embed.timestep_embedder.linear_2", native: "t_embedder.mlp.2" },
  { diffusers: "time_text_embed.text_embedder.linear_1", native: "y_embedder.mlp.0" },
  { diffusers: "time_text_embed.text_embedder.linear_2", native: "y_embedder.mlp.2" },
  { diffusers: "pos_embed.proj", native: "x_embedder.proj" },
  { diffusers: "norm_out.linear", native: "final_layer.adaLN_modulation.1", swapHalves: true },
  { diffusers: "proj_out", native: "final_layer.linear" },
];

/** Number of blocks: the width is 64 per block, and the patch projection has the width as rows. */
export function sd3Depth(parameters: Parameters): number {
  return Math.floor((parameters.get("x_embedder.proj.weight")?.[0] ?? 0) / 64);
}

export function sd3Stems(depth: number): StemPair[] {
  const width = 64 * depth;
  const pairs: StemPair[] = [];
  for (let n = 0; n < depth; n += 1) {
    const d = `transformer_blocks.${n}`;
    const image = `joint_blocks.${n}.x_block`;
    const text = `joint_blocks.${n}.context_block`;
    (["q", "k", "v"] as const).forEach((name, part) => {
      const slice = { start: part * width, length: width };
      pairs.push(
        { diffusers: `${d}.attn.to_${name}`, native: `${image}.attn.qkv`, slice },
        { diffusers: `${d}.attn.add_${name}_proj`, native: `${text}.attn.qkv`, slice },
        { diffusers: `${d}.attn2.to_${name}`, native: `${image}.attn2.qkv`, slice },
      );
    });
    pairs.push(
      { diffusers: `${d}.attn.to_out.0`, native: `${image}.attn.proj` },
      { diffusers: `${d}.attn.to_add_out`, native: `${text}.attn.proj` },
      { diffusers: `${d}.attn2.to_out.0`, native: `${image}.attn2.proj` },
      { diffusers: `${d}.ff.net.0.proj`, native: `${image}.mlp.fc1` },
      { diffusers: `${d}.ff.net.2`, native: `${image}.mlp.fc2` },
      { diffusers: `${d}.ff_context.net.0.proj`, native: `${text}.mlp.fc1` },
      { diffusers: `${d}.ff_context.net.2`, native: `${text}.mlp.fc2` },
      { diffusers: `${d}.norm1.linear`, native: `${image}.adaLN_modulation.1` },
      // The last text block ends in a plain scale/shift norm, which diffusers stores in the other order.
      { diffusers: `${d}.norm1_context.linear`, native: `${text}.adaLN_modulation.1`, ...(n === depth - 1 ? { swapHalves: true } : {}) },
      { diffusers: `${d}.attn.norm_q`, native: `${image}.attn.ln_q` },
      { diffusers: `${d}.attn.norm_k`, native: `${image}.attn.ln_k` },
      { diffusers: `${d}.attn.norm_added_q`, native: `${text}.attn.ln_q` },
      { diffusers: `${d}.attn.norm_added_k`, native: `${text}.attn.ln_k` },
      { diffusers: `${d}.attn2.norm_q`, native: `${image}.attn2.ln_q` },
      { diffusers: `${d}.attn2.norm_k`, native: `${image}.attn2.ln_k` },
    );
  }
  return [...pairs, ...outside];
}

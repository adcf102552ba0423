// SD3 and SD3.5.

import type { DetectedModel, Shapes } from "./model.ts";

/** Blocks of the image stream with a second self-attention (3.5 medium: the first 13). */
function selfAttentionBlocks(shapes: Shapes): readonly number[] {
  return Array.from({ length: shapes.count("joint_blocks.") }, (_, block) => block).filter((block) => shapes.has(`joint_blocks.${block}.x_block.attn2.qkv.weight`));
}

export function detectSd3(shapes: Shapes): DetectedModel | null {
  const marker = "joint_blocks.0.context_block.attn.qkv.weight";
  const hidden = shapes.dim("x_embedder.proj.weight", 0);
  const inChannels = shapes.dim("x_embedder.proj.weight", 1);
  if (!shapes.has(marker) || hidden === null || inChannels === null) return null;
  const depth = hidden / 64;
  const normed = shapes.has("joint_blocks.0.context_block.attn.ln_k.weight");
  const dual = selfAttentionBlocks(shapes);
  const positions = shapes.dim("pos_embed", 1);
  const variant = depth === 38 ? "3.5-large" : depth === 24 ? (normed || dual.length > 0 ? "3.5-medium" : "3-medium") : "custom";
  return {
    family: "sd3",
    variant,
    evidence: [`key ${marker}`, `depth ${depth} (x_embedder ${hidden} wide)`, normed ? "query and key norms" : "no query and key norms", `${dual.length} blocks with a second self-attention`],
    config: {
      in_channels: inChannels,
      depth,
      adm_in_channels: shapes.dim("y_embedder.mlp.0.weight", 1),
      ...(normed ? { qk_norm: "rms" } : {}),
      pos_embed_max_size: positions === null ? null : Math.round(Math.sqrt(positions)),
      x_block_self_attn_layers: dual,
    },
  };
}

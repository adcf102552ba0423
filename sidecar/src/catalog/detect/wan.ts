// Wan 2.1 and 2.2.

import type { DetectedModel, Shapes } from "./model.ts";

/** Variants that carry additional modules; the first that fits wins. */
const modules: readonly (readonly [string, RegExp])[] = [
  ["vace", /^vace_patch_embedding\./],
  ["camera", /^control_adapter\.conv\./],
  ["s2v", /^casual_audio_encoder\./],
  ["humo", /^audio_proj\./],
  ["animate", /^face_adapter\./],
];

const sizes: ReadonlyMap<number, string> = new Map([[1536, "1.3b"], [5120, "14b"], [3072, "5b"]]);

export function detectWan(shapes: Shapes): DetectedModel | null {
  const dim = shapes.dim("head.modulation", 2) ?? shapes.dim("head.modulation", 1);
  const inDim = shapes.dim("patch_embedding.weight", 1);
  const headRows = shapes.dim("head.head.weight", 0);
  if (dim === null || inDim === null || headRows === null) return null;
  // The head gives a patch of 1 x 2 x 2 cells per row group.
  const outDim = headRows / 4;
  const image = shapes.has("img_emb.proj.0.bias");
  const added = modules.find(([, pattern]) => shapes.find(pattern) !== null);
  const type = added?.[0] ?? (image ? "i2v" : "t2v");
  const kind = added?.[0] ?? (image ? "2.1-i2v" : inDim === 48 && outDim === 48 ? "2.2-ti2v" : inDim === 36 ? "2.2-i2v" : "t2v");
  return {
    family: "wan",
    variant: `${kind}-${sizes.get(dim) ?? "custom"}`,
    evidence: [`head.modulation ${dim} wide`, `patch_embedding takes ${inDim} channels`, image ? "img_emb present" : "no img_emb", ...(added === undefined ? [] : [`${added[0]} modules`])],
    config: {
      image_model: "wan2.1",
      model_type: type,
      in_dim: inDim,
      out_dim: outDim,
      dim,
      ffn_dim: shapes.dim("blocks.0.ffn.0.weight", 0),
      num_layers: shapes.count("blocks."),
      qk_norm: shapes.has("blocks.0.self_attn.norm_q.weight"),
    },
  };
}

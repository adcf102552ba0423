// Family, variant and configuration of a diffusion model from names and shapes alone. In: canonical parameters. Out: a detected model, the name of one
// that is not supported, or null. Never looks at a file's name, and never lets metadata override a shape.

import { detectDescribed, type Parameters } from "../../terms/index.ts";
import { shapesOf } from "./model.ts";
import type { DetectedModel, Shapes, UnsupportedModel } from "./model.ts";
import { detectUnet } from "./unet.ts";

export type { DetectedModel, UnsupportedModel } from "./model.ts";

/** Models of other families, by a name that only they have. */
const others: readonly (readonly [string, RegExp])[] = [
  ["HunyuanVideo", /^txt_in\.individual_token_refiner\./],
  ["Chroma", /^distilled_guidance_layer\./],
  ["Flux.2", /^double_stream_modulation_img\./],
  ["AuraFlow", /^double_layers\.0\.attn\.w1q/],
  ["PixArt or HunyuanDiT", /^t_block\.1\.weight/],
  ["Qwen-Image", /^transformer_blocks\.0\.(txt_norm|txt_mod|img_mod)/],
  ["Lumina or Z-Image", /^(cap_embedder|context_refiner)\./],
  ["LTX-Video", /^adaln_single\.emb\./],
  ["Stable Cascade", /^(clip_txt_mapper|clf)\./],
  ["Cosmos", /^(blocks\.block0\.|x_embedder\.proj\.1\.)/],
  ["Mochi", /^t5_yproj\./],
];

function detectOther(shapes: Shapes): UnsupportedModel | null {
  for (const [name, pattern] of others) {
    const key = shapes.find(pattern);
    if (key !== null) return { unsupported: name, evidence: [`key ${key}`] };
  }
  return null;
}

/** `parameters` are the diffusion model's, by canonical name. Null: nothing that is known. */
export function detectModel(parameters: Parameters): DetectedModel | UnsupportedModel | null {
  const shapes = shapesOf(parameters);
  return detectDescribed(parameters) ?? detectUnet(shapes) ?? detectOther(shapes);
}

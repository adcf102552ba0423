// Flux.1: dev, schnell, and the dev variants with more input channels.

import type { DetectedModel, Shapes, UnsupportedModel } from "./model.ts";

/** Input width of `img_in` is 4 latent channels' worth per channel: 64 = image, +256+64 = fill (image and mask), +64 = control image. */
const inputVariants: ReadonlyMap<number, string> = new Map([[64, ""], [384, "fill"], [128, "control"]]);

export function detectFlux(shapes: Shapes): DetectedModel | UnsupportedModel | null {
  const marker = "double_blocks.0.img_attn.norm.key_norm.scale";
  const hidden = shapes.dim("img_in.weight", 0);
  const input = shapes.dim("img_in.weight", 1);
  if (!shapes.has(marker) || hidden === null || input === null) return null;
  const other = shapes.find(/^txt_in\.individual_token_refiner\./);
  if (other !== null) return { unsupported: "HunyuanVideo", evidence: [`key ${other}`] };
  const chroma = shapes.find(/^distilled_guidance_layer\./);
  if (chroma !== null) return { unsupported: "Chroma", evidence: [`key ${chroma}`] };
  const guidance = shapes.has("guidance_in.in_layer.weight");
  const base = guidance ? "dev" : "schnell";
  const extra = inputVariants.get(input) ?? `${input / 4}-channels`;
  return {
    family: "flux",
    variant: extra === "" ? base : `${base}-${extra}`,
    evidence: [`key ${marker}`, `img_in takes ${input}`, guidance ? "guidance_in present" : "no guidance_in"],
    config: {
      image_model: "flux",
      in_channels: input / 4,
      depth: shapes.count("double_blocks."),
      depth_single_blocks: shapes.count("single_blocks."),
      guidance_embed: guidance,
      hidden_size: hidden,
    },
  };
}

// Diffusers module paths of a UNet and their checkpoint names, generated from the layout.

import type { StemPair } from "./stem.ts";
import type { UnetLayout } from "./unet-layout.ts";

const resnet = [
  ["norm1", "in_layers.0"],
  ["conv1", "in_layers.2"],
  ["time_emb_proj", "emb_layers.1"],
  ["norm2", "out_layers.0"],
  ["conv2", "out_layers.3"],
  ["conv_shortcut", "skip_connection"],
] as const;

const attention = ["norm", "proj_in", "proj_out"] as const;

const transformerBlock = [
  "norm1",
  "norm2",
  "norm3",
  "attn1.to_q",
  "attn1.to_k",
  "attn1.to_v",
  "attn1.to_out.0",
  "attn2.to_q",
  "attn2.to_k",
  "attn2.to_v",
  "attn2.to_out.0",
  "ff.net.0.proj",
  "ff.net.2",
] as const;

const outside = [
  ["add_embedding.linear_1", "label_emb.0.0"],
  ["add_embedding.linear_2", "label_emb.0.2"],
  ["class_embedding.linear_1", "label_emb.0.0"],
  ["class_embedding.linear_2", "label_emb.0.2"],
  ["conv_in", "input_blocks.0.0"],
  ["conv_norm_out", "out.0"],
  ["conv_out", "out.2"],
  ["time_embedding.linear_1", "time_embed.0"],
  ["time_embedding.linear_2", "time_embed.2"],
] as const;

function resnetPairs(diffusers: string, native: string): StemPair[] {
  return resnet.map(([d, n]) => ({ diffusers: `${diffusers}.${d}`, native: `${native}.${n}` }));
}

function attentionPairs(diffusers: string, native: string, depth: number): StemPair[] {
  const blocks = Array.from({ length: depth }, (_, t) => transformerBlock.map((stem) => `transformer_blocks.${t}.${stem}`)).flat();
  return [...attention, ...blocks].map((stem) => ({ diffusers: `${diffusers}.${stem}`, native: `${native}.${stem}` }));
}

/**
 * Every (diffusers stem, native stem) pair of the layout, in the order in which the key map lists them. Some native stems may not exist
 * (a shortcut between equal widths, the last level's resampler): an adapter that names them is told so.
 */
export function unetStems(layout: UnetLayout): StemPair[] {
  const pairs: StemPair[] = [];
  let block = 1;
  layout.down.forEach((depths, level) => {
    depths.forEach((depth, index) => {
      pairs.push(...resnetPairs(`down_blocks.${level}.resnets.${index}`, `input_blocks.${block}.0`));
      if (depth > 0) pairs.push(...attentionPairs(`down_blocks.${level}.attentions.${index}`, `input_blocks.${block}.1`, depth));
      block += 1;
    });
    pairs.push({ diffusers: `down_blocks.${level}.downsamplers.0.conv`, native: `input_blocks.${block}.0.op` });
    block += 1;
  });
  pairs.push(...attentionPairs("mid_block.attentions.0", "middle_block.1", layout.middle));
  pairs.push(...resnetPairs("mid_block.resnets.0", "middle_block.0"), ...resnetPairs("mid_block.resnets.1", "middle_block.2"));
  block = 0;
  layout.up.forEach((depths, level) => {
    depths.forEach((depth, index) => {
      pairs.push(...resnetPairs(`up_blocks.${level}.resnets.${index}`, `output_blocks.${block}.0`));
      if (depth > 0) pairs.push(...attentionPairs(`up_blocks.${level}.attentions.${index}`, `output_blocks.${block}.1`, depth));
      if (index === depths.length - 1) {
        pairs.push({ diffusers: `up_blocks.${level}.upsamplers.0.conv`, native: `output_blocks.${block}.${depth > 0 ? 2 : 1}.conv` });
      }
      block += 1;
    });
  });
  pairs.push(...outside.map(([diffusers, native]) => ({ diffusers, native })));
  return pairs;
}

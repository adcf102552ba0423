// UNet families: SD 1.x, SD 2.x, SDXL and its refiner, and models of their layouts with other widths or depths.
// Tests and numbers: docs/develop/catalog.md, "Which family". C = width of the first convolution, ctx = width of the text condition, adm = width of `y`.

import type { Family } from "../types.ts";
import type { DetectedModel, Shapes, UnsupportedModel } from "./model.ts";

interface Level {
  readonly channels: number;
  /** Transformer depth after each residual block, 0 where there is no attention. */
  readonly depths: readonly number[];
}

function depthOf(shapes: Shapes, module: string): number {
  return shapes.has(`${module}.transformer_blocks.0.attn2.to_k.weight`) ? shapes.count(`${module}.transformer_blocks.`) : 0;
}

/** Levels of the input side. A level ends where a block is nothing but a downsampler. Null when blocks are missing. */
function inputLevels(shapes: Shapes): readonly Level[] | null {
  const blocks = shapes.count("input_blocks.");
  const levels: { channels: number; depths: number[] }[] = [{ channels: 0, depths: [] }];
  for (let block = 1; block < blocks; block += 1) {
    if (shapes.has(`input_blocks.${block}.0.op.weight`)) {
      levels.push({ channels: 0, depths: [] });
      continue;
    }
    const channels = shapes.dim(`input_blocks.${block}.0.out_layers.3.weight`, 0);
    const level = levels.at(-1);
    if (channels === null || level === undefined) return null;
    level.channels = channels;
    level.depths.push(depthOf(shapes, `input_blocks.${block}.1`));
  }
  return levels.every((level) => level.depths.length > 0) ? levels : null;
}

/** Depth of each output block, last block first: the order in which model code consumes the list from its end. */
function outputDepths(shapes: Shapes): readonly number[] {
  return Array.from({ length: shapes.count("output_blocks.") }, (_, block) => depthOf(shapes, `output_blocks.${block}.1`)).reverse();
}

const inputVariants: ReadonlyMap<number, string> = new Map([
  [4, "base"],
  [9, "inpaint"],
  [8, "ip2p"],
  [5, "depth"],
]);

/** Published cut-down SDXL models by the transformer depths of their input side. */
const sdxlDepths: ReadonlyMap<string, string> = new Map([
  ["0,0,2,2,10,10", ""],
  ["0,0,2,2,4,4", "ssd-1b"],
  ["0,0,1,1,2,2", "vega"],
]);

interface Facts {
  readonly width: number;
  readonly context: number | null;
  readonly adm: number | null;
  readonly linear: boolean;
  readonly levels: number;
  readonly depths: string;
}

/** The family by the published widths; `exact` is false when only the layout fits, as with small or re-trained models. */
function familyOf(facts: Facts): { readonly family: Family; readonly exact: boolean } {
  const { width, context, adm, linear, levels } = facts;
  if (width === 320 && context === 768 && adm === null) return { family: "sd15", exact: true };
  if (width === 320 && context === 1024 && adm === null) return { family: "sd2", exact: true };
  if (width === 320 && context === 2048 && adm === 2816) return { family: "sdxl", exact: true };
  if (width === 384 && context === 1280 && adm === 2560) return { family: "sdxl-refiner", exact: true };
  if (adm !== null) return { family: levels === 4 ? "sdxl-refiner" : "sdxl", exact: false };
  return { family: linear ? "sd2" : "sd15", exact: false };
}

function variantOf(family: Family, exact: boolean, facts: Facts, inChannels: number): string {
  const shape = !exact ? "custom" : family === "sdxl" ? (sdxlDepths.get(facts.depths) ?? "custom") : "";
  const input = inputVariants.get(inChannels) ?? `${inChannels}-channels`;
  if (shape === "") return input;
  return input === "base" ? shape : `${shape}-${input}`;
}

export function detectUnet(shapes: Shapes): DetectedModel | UnsupportedModel | null {
  const width = shapes.dim("input_blocks.0.0.weight", 0);
  const inChannels = shapes.dim("input_blocks.0.0.weight", 1);
  if (width === null || inChannels === null) return null;
  const temporal = shapes.find(/\.time_(stack|mixer|embed_blocks)\b|temporal/);
  if (temporal !== null) return { unsupported: "a video UNet (Stable Video Diffusion)", evidence: [`key ${temporal}`] };
  const levels = inputLevels(shapes);
  if (levels === null)
    return {
      unsupported: "a UNet of another layout",
      evidence: ["input_blocks.0.0.weight", "residual blocks are missing or named otherwise"],
    };
  const condition = shapes.find(/attn2\.to_k\.weight$/);
  const projection = shapes.find(/\.proj_in\.weight$/);
  const facts: Facts = {
    width,
    context: condition === null ? null : shapes.dim(condition, 1),
    adm: shapes.dim("label_emb.0.0.weight", 1),
    linear: projection !== null && shapes.rank(projection) === 2,
    levels: levels.length,
    depths: levels.flatMap((level) => level.depths).join(","),
  };
  const evidence = [
    `first convolution ${width} wide, ${inChannels} channels in`,
    facts.context === null ? "no text condition" : `text condition ${facts.context} wide (${condition ?? ""})`,
    facts.adm === null ? "no label_emb" : `label_emb takes ${facts.adm}`,
  ];
  if (width === 320 && facts.context === 1024 && facts.adm !== null) return { unsupported: "SD 2 unCLIP", evidence };
  const { family, exact } = familyOf(facts);
  return {
    family,
    variant: variantOf(family, exact, facts, inChannels),
    evidence: exact
      ? evidence
      : [...evidence, `${levels.length} levels, proj_in ${facts.linear ? "linear" : "1x1 convolution"}: layout of ${family}`],
    config: {
      in_channels: inChannels,
      context_dim: facts.context,
      adm_in_channels: facts.adm,
      model_channels: width,
      num_res_blocks: levels.map((level) => level.depths.length),
      transformer_depth: levels.flatMap((level) => level.depths),
      transformer_depth_output: outputDepths(shapes),
      transformer_depth_middle: depthOf(shapes, "middle_block.1"),
      channel_mult: levels.map((level) => level.channels / width),
      use_linear_in_transformer: facts.linear,
    },
  };
}

// Block layout of a UNet, read from a structure. Rules and tables: docs/develop/adapters.md, "UNet families".

import type { Family } from "../../catalog/types.ts";
import { countIndices } from "./parameters.ts";

/** One level: the transformer depth after each resnet, 0 where there is no attention. */
export type LevelDepths = readonly number[];

export interface UnetLayout {
  readonly down: readonly LevelDepths[];
  readonly middle: number;
  readonly up: readonly LevelDepths[];
}

/** The published layouts, for structures that lack blocks (a file with only part of a model). */
const standardLayouts: Partial<Record<Family, UnetLayout>> = {
  sd15: {
    down: [
      [1, 1],
      [1, 1],
      [1, 1],
      [0, 0],
    ],
    middle: 1,
    up: [
      [0, 0, 0],
      [1, 1, 1],
      [1, 1, 1],
      [1, 1, 1],
    ],
  },
  sd2: {
    down: [
      [1, 1],
      [1, 1],
      [1, 1],
      [0, 0],
    ],
    middle: 1,
    up: [
      [0, 0, 0],
      [1, 1, 1],
      [1, 1, 1],
      [1, 1, 1],
    ],
  },
  sdxl: {
    down: [
      [0, 0],
      [2, 2],
      [10, 10],
    ],
    middle: 10,
    up: [
      [10, 10, 10],
      [2, 2, 2],
      [0, 0, 0],
    ],
  },
  "sdxl-refiner": {
    down: [
      [0, 0],
      [4, 4],
      [4, 4],
      [0, 0],
    ],
    middle: 4,
    up: [
      [0, 0, 0],
      [4, 4, 4],
      [4, 4, 4],
      [0, 0, 0],
    ],
  },
};

/**
 * Layout of a UNet from its canonical parameter names. Levels end at a resampler, depths are counted per block, so cut-down
 * variants (SSD-1B, Vega, other widths and depths) need no table. When block numbers have gaps, the family's published layout is taken.
 * Null when there is neither.
 */
export function unetLayout(names: ReadonlySet<string>, family: Family): UnetLayout | null {
  return fromBlocks(names) ?? standardLayouts[family] ?? null;
}

function fromBlocks(names: ReadonlySet<string>): UnetLayout | null {
  const downCount = countIndices(names, "input_blocks.");
  const upCount = countIndices(names, "output_blocks.");
  if (downCount < 2 || upCount < 2) return null;
  const depths = blockDepths(names);
  const down: number[][] = [[]];
  for (let block = 1; block < downCount; block += 1) {
    if (names.has(`input_blocks.${block}.0.op.weight`)) down.push([]);
    else if (names.has(`input_blocks.${block}.0.in_layers.2.weight`)) down.at(-1)?.push(depths.get(`input_blocks.${block}.1`) ?? 0);
    else return null;
  }
  const up: number[][] = [[]];
  for (let block = 0; block < upCount; block += 1) {
    if (!names.has(`output_blocks.${block}.0.in_layers.2.weight`)) return null;
    up.at(-1)?.push(depths.get(`output_blocks.${block}.1`) ?? 0);
    const resampled = names.has(`output_blocks.${block}.1.conv.weight`) || names.has(`output_blocks.${block}.2.conv.weight`);
    if (resampled && block < upCount - 1) up.push([]);
  }
  return { down, middle: depths.get("middle_block.1") ?? 0, up };
}

/** Number of transformer blocks by module path (`input_blocks.4.1`). */
function blockDepths(names: Iterable<string>): ReadonlyMap<string, number> {
  const depths = new Map<string, number>();
  for (const name of names) {
    const match = /^(.+?)\.transformer_blocks\.(\d+)\./.exec(name);
    if (match?.[1] === undefined) continue;
    depths.set(match[1], Math.max(depths.get(match[1]) ?? 0, Number(match[2]) + 1));
  }
  return depths;
}

/** Layout of a UNet that is stored in diffusers names; null when blocks are missing. */
export function diffusersUnetLayout(names: ReadonlySet<string>): UnetLayout | null {
  const depths = blockDepths(names);
  const levels = (side: string): number[][] | null => {
    const count = countIndices(names, `${side}.`);
    const result: number[][] = [];
    for (let level = 0; level < count; level += 1) {
      const resnets = countIndices(names, `${side}.${level}.resnets.`);
      if (resnets === 0) return null;
      result.push(Array.from({ length: resnets }, (_, resnet) => depths.get(`${side}.${level}.attentions.${resnet}`) ?? 0));
    }
    return count === 0 ? null : result;
  };
  const down = levels("down_blocks");
  const up = levels("up_blocks");
  return down && up ? { down, middle: depths.get("mid_block.attentions.0") ?? 0, up } : null;
}

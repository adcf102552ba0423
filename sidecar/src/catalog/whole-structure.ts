// Whether a recognised diffusion model is all there, whatever its file is called: a renamed shard is half a model that looks like one.

import { familyTable, type Family } from "@refit-sidecar/protocol";
import { Failure } from "../failure/index.ts";
import { findName, type Parameters } from "../terms/index.ts";
import type { Problem } from "./types.ts";

/** Structures of tests have fewer parameters than any model; nothing can be said of them. */
const fewest = 32;

/** Blocks of one list, by number: the names behind `double_blocks.7.`. */
type Blocks = ReadonlyMap<number, ReadonlySet<string>>;

/** Lists of blocks by their prefix. A number before plain values alone is a position in a sequence of layers, where gaps are usual. */
function blockLists(names: Iterable<string>): ReadonlyMap<string, Blocks> {
  const lists = new Map<string, Map<number, Set<string>>>();
  const ofLayers = new Set<string>();
  for (const name of names) {
    const found = /^([^0-9]+)\.([0-9]+)\.(.+)$/.exec(name);
    if (found === null) continue;
    const [, list = "", index = "", inner = ""] = found;
    const blocks = lists.get(list) ?? new Map<number, Set<string>>();
    lists.set(list, blocks);
    const number = Number(index);
    blocks.set(number, (blocks.get(number) ?? new Set()).add(inner));
    if (inner.includes(".")) ofLayers.add(list);
  }
  return new Map([...lists].filter(([list]) => ofLayers.has(list)));
}

function gapIn(list: string, blocks: Blocks): string | null {
  const last = Math.max(...blocks.keys());
  // A list of one may be a layer of a sequence.
  if (blocks.size < 2 && last < 3) return null;
  for (let index = 0; index < last; index += 1) if (!blocks.has(index)) return `${list}.${index}, although ${list}.${last} is there`;
  return null;
}

/** What the equal blocks before the last have and the last has not. The last block of some families (SD3's text side) is smaller as a whole: then the rest of that part is left out too. */
function cutIn(list: string, blocks: Blocks): string | null {
  const last = Math.max(...blocks.keys());
  const [own, before, ...earlier] = [last, last - 1, last - 2, last - 3].map((index) => blocks.get(index));
  // Only of a list of equal blocks can be said what the last one should have.
  if (own === undefined || before === undefined) return null;
  if (!earlier.every((block) => block?.size === before.size && [...before].every((name) => block.has(name)))) return null;
  // One that has nothing of theirs is a layer of another kind behind them.
  if (![...own].some((name) => before.has(name))) return null;
  const lacking = [...before].filter((name) => !own.has(name) && !isSmaller(name, own, before));
  return lacking[0] === undefined ? null : `${list}.${last}.${lacking[0]}, which the blocks before it have`;
}

/**
 * What blocks before and after have and one between them has not. Blocks of two kinds that take turns, and a kind that begins or ends within the list (SD3.5's second
 * attention), lack it in more of them, or at an end.
 */
function holeIn(list: string, blocks: Blocks): string | null {
  const having = new Map<string, number[]>();
  for (const index of [...blocks.keys()].sort((a, b) => a - b))
    for (const name of blocks.get(index) ?? []) having.set(name, [...(having.get(name) ?? []), index]);
  for (const [name, indices] of having) {
    const [first = 0, last = 0] = [indices[0], indices.at(-1)];
    const between = last - first + 1;
    const missing = between - indices.length;
    if (missing === 0 || missing * 3 > between) continue;
    const index = indices.find((at, place) => indices[place + 1] !== at + 1) ?? first;
    return `${list}.${index + 1}.${name}, which the blocks around it have`;
  }
  return null;
}

/** A bias whose layer has nothing else. In a sequence of layers a bias may belong to the layer before: those have numbers. */
function biasAlone(parameters: Parameters): string | null {
  const stems = new Set(
    [...parameters.keys()].filter((name) => !name.endsWith(".bias")).map((name) => name.slice(0, name.lastIndexOf("."))),
  );
  for (const name of parameters.keys()) {
    const stem = name.slice(0, -".bias".length);
    if (name.endsWith(".bias") && !/[0-9]/.test(stem) && !stems.has(stem)) return `${stem}.weight, although ${name} is there`;
  }
  return null;
}

/** The text side of SD3's last block gives keys and values alone: its sub-block is there, and without what follows the attention. */
function isSmaller(name: string, own: ReadonlySet<string>, before: ReadonlySet<string>): boolean {
  const part = name.split(".")[0] ?? "";
  return (
    part === "context_block" &&
    own.has("context_block.attn.qkv.weight") &&
    before.has("x_block.mlp.fc2.weight") &&
    own.has("x_block.mlp.fc2.weight")
  );
}

/** Not the middle: some relatives keep its first layer alone (Vega), others none of it. */
const unetEnds = ["time_embed.2.weight", "out.2.weight"];

function lackingInUnet(parameters: Parameters, lists: ReadonlyMap<string, Blocks>): string | null {
  const absent = unetEnds.find((name) => !parameters.has(name));
  if (absent !== undefined) return absent;
  const [into, out] = ["input_blocks", "output_blocks"].map((list) => lists.get(list)?.size ?? 0);
  return into === out ? null : `as many output_blocks as input_blocks (${into})`;
}

/** What a whole model of the family has and these parameters have not, in words; null when nothing is missed. */
function lackingPart(family: Family, parameters: Parameters, told: boolean): string | null {
  if (parameters.size < fewest) return null;
  const description = familyTable.find((one) => one.family === family);
  const lists = blockLists(parameters.keys());
  // Of a relative of the family, which somebody had to name, blocks alone are known: not what stands around them, nor the layers of its encoders.
  const known = (list: string): boolean => !told || !list.includes(".");
  for (const [list, blocks] of lists) {
    if (!known(list)) continue;
    const gap = gapIn(list, blocks);
    if (gap !== null) return gap;
    const hole = description?.layout === "unet" ? null : holeIn(list, blocks);
    if (hole !== null) return hole;
  }
  if (description?.layout === "unet") return told ? null : lackingInUnet(parameters, lists);
  if (!told) {
    const absent = biasAlone(parameters) ?? description?.checkpoint?.whole?.find((name) => findName(parameters, name) === undefined);
    if (absent !== undefined) return absent;
  }
  for (const [list, blocks] of lists) {
    if (!known(list)) continue;
    const cut = cutIn(list, blocks);
    if (cut !== null) return cut;
  }
  return null;
}

/** CATALOG_INCOMPLETE for a part of a model; null for a whole one. */
export function incompleteProblem(family: Family, parameters: Parameters, told = false): Problem | null {
  const lacking = lackingPart(family, parameters, told);
  if (lacking === null) return null;
  const title = familyTable.find((one) => one.family === family)?.title ?? family;
  return {
    code: "CATALOG_INCOMPLETE",
    message: `expected a whole ${title} model; this file has no ${lacking.slice(0, 200)}. It is a part of a checkpoint (a shard under another name, or a download that was cut): get the whole one, or all shards under their own names.`,
  };
}

/** `told`: a user named the family. Throws Failure CATALOG_INCOMPLETE. */
export function requireWhole(family: Family, parameters: Parameters, told: boolean): void {
  const problem = incompleteProblem(family, parameters, told);
  if (problem !== null) throw new Failure(problem.code, problem.message, { family });
}

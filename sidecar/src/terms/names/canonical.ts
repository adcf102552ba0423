// Header of a checkpoint → canonical parameters and the file keys that hold them, for checkpoint and diffusers formats.

import { familyTable, type Family } from "@refit-sidecar/protocol";
import { diffusersBlocks, findName, namePairs, patternOf, renamedBy, scopeOf, type NamePair } from "../families/index.ts";
import { elements } from "../kinds/kind.ts";
import { checkpointPrefix, toldPrefix } from "./checkpoint-prefix.ts";
import type { Parameters } from "./parameters.ts";
import { diffusersUnetLayout } from "./unet-layout.ts";
import { unetStems } from "./unet-stems.ts";

/** A file tensor that holds a parameter, or rows of one (diffusers files keep q, k and v apart). */
export interface ParameterPart {
  readonly key: string;
  readonly start: number;
  readonly length: number;
  /** The file has the halves of dimension 0 in the other order. */
  readonly swapHalves: boolean;
}

export interface CanonicalParameter {
  readonly name: string;
  readonly shape: readonly number[];
  /** In row order, covering dimension 0 without gaps. One part unless the file keeps a fused parameter in pieces. */
  readonly parts: readonly ParameterPart[];
}

export interface CanonicalNames {
  readonly format: "checkpoint" | "diffusers";
  /** What precedes canonical names in the file's keys; empty for diffusers files and bare models. */
  readonly prefix: string;
  readonly parameters: ReadonlyMap<string, CanonicalParameter>;
  /** Keys outside the diffusion model (text encoders, VAE), and diffusers keys without a counterpart. */
  readonly otherKeys: readonly string[];
  /** The family whose diffusers class the names are of; null for a checkpoint, whose names are asked later. */
  readonly family: Family | null;
}

/** `family` given: names as that family has them, whatever they look like. Throws nothing: a header that fits no rule gives its keys as bare parameters, and the family test rejects it. */
export function canonicalNames(shapes: Parameters, family: Family | null = null): CanonicalNames {
  const stems = diffusersFormat(shapes);
  return stems ? fromDiffusers(shapes, stems) : fromCheckpoint(shapes, family);
}

/** Empty tensors that tell a UI's sampler how the model was trained. Beside bare names they would look like parameters. */
const samplingMarkers: ReadonlySet<string> = new Set([
  "v_pred",
  "ztsnr",
  "edm_mean",
  "edm_std",
  "edm_vpred.sigma_max",
  "edm_vpred.sigma_min",
]);

const same = (name: string): string => name;

/** How a file's names become canonical: by the renames of the family that they then fit, or of the one that is given. */
function fileNames(prefix: string, shapes: Parameters, family: Family | null): (name: string) => string {
  const renaming = familyTable.filter((one) => one.checkpoint?.renames !== undefined && (family === null || one.family === family));
  for (const { checkpoint } of renaming) {
    const renames = checkpoint?.renames ?? [];
    const rename = (name: string): string => {
      for (const [from, to] of renames) {
        const renamed = renamedBy(from, to, name);
        if (renamed !== null) return renamed;
      }
      return name;
    };
    if (family !== null) return rename;
    // What no rename makes must be there as it is: most files are told apart by that, without a look at all of their names.
    const asStored =
      checkpoint?.requires.filter((name) => !name.includes("{") && !renames.some(([, to]) => patternOf(to)?.test(name) ?? to === name)) ??
      [];
    if (!asStored.every((name) => shapes.has(prefix + name))) continue;
    const names = new Set([...shapes.keys()].filter((key) => key.startsWith(prefix)).map((key) => rename(key.slice(prefix.length))));
    const has = (name: string): boolean => findName(names, name) !== undefined;
    if (checkpoint?.requires.every(has) && !checkpoint.forbids?.some(has)) return rename;
  }
  return same;
}

function fromCheckpoint(shapes: Parameters, family: Family | null): CanonicalNames {
  const prefix = family === null ? checkpointPrefix(shapes.keys()) : toldPrefix([...shapes.keys()]);
  const parameters = new Map<string, CanonicalParameter>();
  const otherKeys: string[] = [];
  const rename = fileNames(prefix, shapes, family);
  for (const [key, shape] of shapes) {
    const stored = key.slice(prefix.length);
    if (!key.startsWith(prefix)) {
      otherKeys.push(key);
      continue;
    }
    if (samplingMarkers.has(stored)) {
      otherKeys.push(key);
      continue;
    }
    const name = rename(stored);
    const parts = [{ key, start: 0, length: shape[0] ?? 1, swapHalves: false }];
    parameters.set(name, { name, shape, parts });
  }
  return { format: "checkpoint", prefix, parameters, otherKeys, family: null };
}

interface DiffusersFile {
  readonly pairs: readonly NamePair[];
  readonly family: Family | null;
}

/** Stems of a file in diffusers names; null for any other file. */
function diffusersFormat(shapes: Parameters): DiffusersFile | null {
  if (shapes.has("conv_in.weight") && shapes.has("conv_norm_out.weight")) {
    const layout = diffusersUnetLayout(new Set(shapes.keys()));
    return layout && { pairs: unetStems(layout), family: null };
  }
  const found = familyTable.find(
    ({ diffusers }) =>
      diffusers !== undefined &&
      diffusers.requires.every((name) => findName(shapes, name) !== undefined) &&
      !diffusers.forbids?.some((name) => findName(shapes, name) !== undefined),
  );
  if (found === undefined) return null;
  return { pairs: namePairs(found, scopeOf(found, shapes, diffusersBlocks(found, shapes.keys())), "file"), family: found.family as Family };
}

function fromDiffusers(shapes: Parameters, { pairs, family }: DiffusersFile): CanonicalNames {
  const found = new Map<string, { shape: readonly number[]; parts: ParameterPart[] }>();
  const used = new Set<string>();
  const add = (key: string, name: string, pair: NamePair): void => {
    const stored = shapes.get(key);
    if (!stored || used.has(key)) return;
    const shape = pair.shapeOf?.(elements(stored)) ?? stored;
    used.add(key);
    const known = found.get(name);
    // Rows are counted in the file: what precedes a part is what was read before it.
    const start = known?.parts.reduce((sum, part) => sum + part.length, 0) ?? 0;
    const part = { key, start, length: shape[0] ?? 1, swapHalves: pair.swapHalves ?? false };
    if (known) known.parts.push(part);
    else found.set(name, { shape, parts: [part] });
  };
  for (const pair of pairs) {
    if (pair.only === "adapters") continue;
    if (pair.bare) {
      add(pair.diffusers, pair.native, pair);
      continue;
    }
    add(`${pair.diffusers}.weight`, pair.native + (pair.nativeSuffix ?? ".weight"), pair);
    add(`${pair.diffusers}.bias`, `${pair.native}.bias`, pair);
  }
  const parameters = new Map<string, CanonicalParameter>();
  for (const [name, { shape, parts }] of found) {
    const rows = parts.reduce((sum, part) => sum + part.length, 0);
    parameters.set(name, { name, shape: parts.length === 1 ? shape : [rows, ...shape.slice(1)], parts });
  }
  return { format: "diffusers", prefix: "", parameters, family, otherKeys: [...shapes.keys()].filter((key) => !used.has(key)) };
}

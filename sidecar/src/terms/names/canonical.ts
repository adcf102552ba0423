// Header of a checkpoint → canonical parameters and the file keys that hold them, for checkpoint and diffusers formats.

import { checkpointPrefix, fp8Helper } from "./checkpoint-prefix.ts";
import { fluxStems } from "./flux-stems.ts";
import { countIndices, type Parameters } from "./parameters.ts";
import { sd3Stems } from "./sd3-stems.ts";
import type { StemPair } from "./stem.ts";
import { diffusersUnetLayout } from "./unet-layout.ts";
import { unetStems } from "./unet-stems.ts";
import { wanBareParameters, wanStems } from "./wan-stems.ts";

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
  /** fp8: file key of the scalar to multiply onto the stored values. */
  readonly scaleKey?: string;
}

export interface CanonicalNames {
  readonly format: "checkpoint" | "diffusers";
  /** What precedes canonical names in the file's keys; empty for diffusers files and bare models. */
  readonly prefix: string;
  readonly parameters: ReadonlyMap<string, CanonicalParameter>;
  /** Keys outside the diffusion model (text encoders, VAE), fp8 helpers, and diffusers keys without a counterpart. */
  readonly otherKeys: readonly string[];
}

/** Throws nothing: a header that fits no rule gives its keys as bare parameters, and the family test rejects it. */
export function canonicalNames(shapes: Parameters): CanonicalNames {
  const stems = diffusersFormat(shapes);
  return stems ? fromDiffusers(shapes, stems.pairs, stems.bare) : fromCheckpoint(shapes);
}

function fromCheckpoint(shapes: Parameters): CanonicalNames {
  const prefix = checkpointPrefix(shapes.keys());
  const parameters = new Map<string, CanonicalParameter>();
  const otherKeys: string[] = [];
  for (const [key, shape] of shapes) {
    const name = key.slice(prefix.length);
    if (!key.startsWith(prefix) || fp8Helper(name) !== null) {
      otherKeys.push(key);
      continue;
    }
    const scaleKey = key.endsWith(".weight") ? `${key.slice(0, -".weight".length)}.scale_weight` : "";
    const parts = [{ key, start: 0, length: shape[0] ?? 1, swapHalves: false }];
    parameters.set(name, { name, shape, parts, ...(shapes.has(scaleKey) ? { scaleKey } : {}) });
  }
  return { format: "checkpoint", prefix, parameters, otherKeys };
}

interface DiffusersStems {
  readonly pairs: readonly StemPair[];
  readonly bare: readonly (readonly [string, string])[];
}

/** Stems of a file in diffusers names; null for any other file. */
function diffusersFormat(shapes: Parameters): DiffusersStems | null {
  if (shapes.has("conv_in.weight") && shapes.has("conv_norm_out.weight")) {
    const layout = diffusersUnetLayout(new Set(shapes.keys()));
    return layout && { pairs: unetStems(layout), bare: [] };
  }
  const width = shapes.get("transformer_blocks.0.attn.to_q.weight")?.[0];
  if (width !== undefined && shapes.has("transformer_blocks.0.attn.add_q_proj.weight")) {
    if (shapes.has("pos_embed.proj.weight")) return { pairs: sd3Stems(countIndices(shapes.keys(), "transformer_blocks.")), bare: [["pos_embed.pos_embed", "pos_embed"]] };
    const single = countIndices(shapes.keys(), "single_transformer_blocks.");
    if (single > 0) return { pairs: fluxStems(countIndices(shapes.keys(), "transformer_blocks."), single, width), bare: [] };
  }
  if (shapes.has("condition_embedder.text_embedder.linear_1.weight")) {
    const blocks = countIndices(shapes.keys(), "blocks.");
    return { pairs: wanStems(blocks), bare: wanBareParameters(blocks) };
  }
  return null;
}

function fromDiffusers(shapes: Parameters, pairs: readonly StemPair[], bare: readonly (readonly [string, string])[]): CanonicalNames {
  const found = new Map<string, { shape: readonly number[]; parts: ParameterPart[] }>();
  const used = new Set<string>();
  const add = (key: string, name: string, pair: StemPair | null): void => {
    const shape = shapes.get(key);
    if (!shape || used.has(key)) return;
    used.add(key);
    const part = { key, start: pair?.slice?.start ?? 0, length: shape[0] ?? 1, swapHalves: pair?.swapHalves ?? false };
    const known = found.get(name);
    if (known) known.parts.push(part);
    else found.set(name, { shape, parts: [part] });
  };
  for (const pair of pairs) {
    add(`${pair.diffusers}.weight`, pair.native + (pair.nativeSuffix ?? ".weight"), pair);
    add(`${pair.diffusers}.bias`, `${pair.native}.bias`, pair);
  }
  for (const [key, name] of bare) add(key, name, null);
  const parameters = new Map<string, CanonicalParameter>();
  for (const [name, { shape, parts }] of found) {
    parts.sort((a, b) => a.start - b.start);
    const rows = parts.reduce((sum, part) => sum + part.length, 0);
    parameters.set(name, { name, shape: parts.length === 1 ? shape : [rows, ...shape.slice(1)], parts });
  }
  return { format: "diffusers", prefix: "", parameters, otherKeys: [...shapes.keys()].filter((key) => !used.has(key)) };
}

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { native, writeSafetensors } from "@refit-sidecar/native";
import type { FrameTensor } from "@refit-sidecar/protocol";
import { openBase } from "../bake/index.ts";
import type { CheckpointSource } from "../catalog/index.ts";
import { ensureDelta } from "../delta/index.ts";
import { noiseOf } from "../demo/index.ts";
import { packageRoot } from "../package-root.ts";
import type { EngineSpec, Wanted, WantedAdapter } from "../refit/index.ts";
import { asBytes, elements, touchedParameters } from "../terms/index.ts";

export type RealSize = "sd15" | "sdxl";

/** A model of real size with random weights: for times, not for pictures. */
export interface RealModel {
  readonly spec: (hostKind: string, precision: EngineSpec["precision"]) => EngineSpec;
  readonly wanted: (checkpoint: 0 | 1, strength: number | null) => Wanted;
  /** Both adapters at these strengths; 0 leaves one out. */
  readonly stacked: (checkpoint: 0 | 1, strengths: readonly [number, number]) => Wanted;
  /** Layers that an adapter changes, and its rank. */
  readonly layers: number;
  readonly rank: number;
  readonly inputs: readonly FrameTensor[];
  /** In words: size of the picture and of the weights. */
  readonly what: string;
  /** Some parameters of every part of the model, for comparing bits without reading gigabytes. */
  readonly sample: readonly string[];
}

/** Latent side of the pictures that the family was trained for: 512 and 1024 px. */
const sides: Readonly<Record<RealSize, number>> = { sd15: 64, sdxl: 128 };
const batch = 2;
const tokens = 77;
const rank = 16;
/** Values that are repeated through a file, in different order for every tensor. */
const poolValues = 1 << 22;
/** Layers that adapters of these families train. */
const trained = [".transformer_blocks.", ".proj_in.", ".proj_out."];

interface GraphFile {
  readonly inputs: readonly { readonly name: string; readonly dtype: string; readonly shape: readonly (number | string)[] }[];
  readonly refitMap: readonly { readonly parameter: string; readonly shape: readonly number[] }[];
}

async function half(values: Float32Array): Promise<Uint8Array> {
  const out = new Uint8Array(values.length * 2);
  await native.convert(asBytes(values), "F32", out, "F16", values.length);
  return out;
}

/** Random weights as trained ones are scaled: 0.7 / sqrt(inputs) for matrices, about 1 for norms, 0 for biases; activations stay finite through the network. */
class RandomHalves {
  readonly #unit = noiseOf(7, poolValues);
  readonly #pools = new Map<number, Promise<Uint8Array>>();

  /** `count` f16 values of deviation `scale`, starting at another place of the pool for another seed. */
  async take(count: number, scale: number, seed: number): Promise<Uint8Array> {
    // To the nearest power of two: a handful of pools serve all layers.
    const power = 2 ** Math.round(Math.log2(scale));
    let pool = this.#pools.get(power);
    if (pool === undefined) this.#pools.set(power, (pool = half(this.#unit.map((value) => value * power))));
    const values = await pool;
    const out = new Uint8Array(count * 2);
    let from = ((Math.imul(seed + 1, 2654435761) >>> 0) % poolValues) * 2;
    for (let at = 0; at < out.byteLength;) {
      const part = values.subarray(from, Math.min(values.byteLength, from + out.byteLength - at));
      out.set(part, at);
      at += part.byteLength;
      from = 0;
    }
    return out;
  }
}

async function writeCheckpoint(
  path: string,
  shapes: ReadonlyMap<string, readonly number[]>,
  random: RandomHalves,
  seed: number,
): Promise<void> {
  const ones = (count: number) => half(new Float32Array(count).fill(1));
  const tensors = [...shapes].map(([name, shape], index) => ({
    name: `model.diffusion_model.${name}`,
    dtype: "F16" as const,
    shape,
    data: () =>
      shape.length >= 2
        ? random.take(elements(shape), 0.7 / Math.sqrt(elements(shape.slice(1))), index + seed * 10_007)
        : name.endsWith("weight")
          ? ones(elements(shape))
          : Promise.resolve(new Uint8Array(elements(shape) * 2)),
  }));
  await writeSafetensors(path, tensors);
}

async function writeAdapter(
  path: string,
  shapes: ReadonlyMap<string, readonly number[]>,
  random: RandomHalves,
  seed: number,
): Promise<number> {
  const layers = [...shapes].filter(([name, shape]) => shape.length >= 2 && trained.some((part) => name.includes(part)));
  const tensors = layers.flatMap(([name, shape], index) => {
    const stem = `diffusion_model.${name.replace(/\.weight$/, "")}`;
    const [rows = 1, ...rest] = shape;
    const tail = rest.slice(1);
    const factor = (part: string, dims: readonly number[], seed: number) => ({
      name: `${stem}.lora_${part}.weight`,
      dtype: "F16" as const,
      shape: dims,
      data: () => random.take(elements(dims), 0.02, seed),
    });
    return [factor("up", [rows, rank, ...tail.map(() => 1)], index * 2 + seed), factor("down", [rank, ...rest], index * 2 + 1 + seed)];
  });
  await writeSafetensors(path, tensors);
  return layers.length;
}

/** Bytes of disk that the files of a size take. */
export async function realModelBytes(size: RealSize): Promise<number> {
  return 2 * 2 * [...(await shapesOf(size)).shapes.values()].reduce((sum, shape) => sum + elements(shape), 0) * 1.1;
}

async function shapesOf(size: RealSize): Promise<{ readonly graph: GraphFile; readonly shapes: ReadonlyMap<string, readonly number[]> }> {
  const graph = JSON.parse(await readFile(join(packageRoot, "graphs", size, "graph.json"), "utf8")) as GraphFile;
  return { graph, shapes: new Map(graph.refitMap.map(({ parameter, shape }) => [parameter, shape])) };
}

/** Writes two checkpoints and two adapters of the family's real size into `folder`. */
export async function openRealModel(folder: string, size: RealSize): Promise<RealModel> {
  const { graph, shapes } = await shapesOf(size);
  const random = new RandomHalves();
  const sources: CheckpointSource[] = [];
  for (const seed of [0, 1]) {
    const path = join(folder, `checkpoint-${seed}.safetensors`);
    await writeCheckpoint(path, shapes, random, seed);
    const { source, close } = await openBase(path, size);
    await close();
    sources.push(source);
  }
  const { structure, close } = await openBase(join(folder, "checkpoint-0.safetensors"), size);
  await close();
  let layers = 0;
  const adapters: ((strength: number) => WantedAdapter)[] = [];
  for (const id of ["adapter", "other-adapter"]) {
    const path = join(folder, `${id}.safetensors`);
    layers = await writeAdapter(path, shapes, random, adapters.length * 20_011);
    const sha256 = await native.hashFile(path);
    const ready = await ensureDelta(
      { adapter: { path, sha256 }, target: { family: size, structure, parameters: shapes }, mode: "comfyui", folder },
      native,
    );
    const touches = { parameters: [...touchedParameters(ready.header.terms)], reshapes: [] };
    adapters.push((strength) => ({ id, file: { delta: ready.path, sha256, strength }, touches }));
  }
  const stacked: RealModel["stacked"] = (checkpoint, strengths) => {
    const source = sources[checkpoint];
    if (source === undefined) throw new TypeError("a real model has two checkpoints");
    const chosen = strengths.flatMap((strength, index) => (strength === 0 ? [] : (adapters[index]?.(strength) ?? [])));
    return {
      desired: { checkpoint: String(checkpoint), stack: chosen.map(({ file }) => ({ sha256: file.sha256, strength: file.strength })) },
      checkpoint: source,
      adapters: chosen,
    };
  };
  const touched = stacked(0, [1, 0]).adapters[0]?.touches.parameters ?? [];
  const side = sides[size];
  const dimension: Readonly<Record<string, number>> = { batch, height: side, width: side, tokens };
  const inputs = graph.inputs.map(({ name, shape }, index): FrameTensor => {
    const sizes = shape.map((axis) => (typeof axis === "number" ? axis : (dimension[axis] ?? 1)));
    const values = name === "timestep" ? new Float32Array(elements(sizes)).fill(499) : noiseOf(100 + index, elements(sizes));
    return { name, dtype: "f32", shape: sizes, data: new Uint8Array(values.buffer) };
  });
  const names = [...shapes.keys()];
  return {
    spec: (hostKind, precision) => ({
      structure,
      precision,
      profile: "any",
      hostKind,
      graph: { folder: join(packageRoot, "graphs", size), variant: precision === "f32" ? "fp32" : "fp16" },
      parameters: { names, fixed: new Set(), shapes: Object.fromEntries(shapes) },
    }),
    wanted: (checkpoint, strength) => stacked(checkpoint, [strength ?? 0, 0]),
    stacked,
    layers,
    rank,
    inputs,
    what: `${size}, ${side * 8} px, batch ${batch}, ${tokens} tokens, ${([...shapes.values()].reduce((sum, shape) => sum + elements(shape), 0) / 1e6).toFixed(0)} million parameters, random weights, rank-${rank} adapter on ${layers} layers`,
    sample: touched.filter((_, index) => index % Math.ceil(touched.length / 24) === 0),
  };
}

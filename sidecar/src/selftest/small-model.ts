import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import type { FrameTensor } from "@refit-sidecar/protocol";
import { native } from "@refit-sidecar/native";
import { bake, openBase } from "../bake/index.ts";
import type { CheckpointSource } from "../catalog/index.ts";
import { ensureDelta } from "../delta/index.ts";
import { demoFolder, readDemoAssets, readReference, sample, stepInputs } from "../demo/index.ts";
import { packageRoot } from "../package-root.ts";
import type { EngineSpec, Wanted, WantedAdapter } from "../refit/index.ts";
import { touchedParameters } from "../terms/index.ts";

export type Precision = EngineSpec["precision"];
export type SmallAdapter = "only-sevens" | "thick-strokes";
export type SmallStack = readonly (readonly [name: SmallAdapter, strength: number])[];
export type SmallCheckpoint = "base" | "baked";

/** The demo's model as a self-test uses it: real diffusion, 9 MB, with PyTorch's answers beside it. */
export interface SmallModel {
  readonly spec: (hostKind: string, precision: Precision) => EngineSpec;
  /** `baked` is the base with only-sevens merged into the file. */
  readonly wanted: (checkpoint: SmallCheckpoint, stack: SmallStack) => Wanted;
  /** One denoiser call's inputs. */
  readonly inputs: readonly FrameTensor[];
  /** Draws with the demo's sampler; `step` runs one denoiser call. Answers the final latents. */
  readonly draw: (step: (inputs: readonly FrameTensor[]) => Promise<Float32Array>) => Promise<Float32Array>;
  /** Layers that an adapter changes, and its rank. */
  readonly layers: number;
  readonly rank: number;
  /** What PyTorch drew, by adapter. */
  readonly reference: (name: "base" | SmallAdapter) => Float32Array;
  /** Largest difference from PyTorch's f32 drawing that another order of f32 operations explains. */
  readonly tolerance: number;
  /** A checkpoint whose file is not what was catalogued. */
  readonly replaced: Wanted;
}

/** Of both of the demo's LoRAs (docs/develop/demo-model.md). */
const demoRank = 2;

async function sourceOf(
  path: string,
): Promise<{ readonly source: CheckpointSource; readonly structure: string; readonly parameters: ReadonlyMap<string, readonly number[]> }> {
  const { source, structure, parameters, close } = await openBase(path, "sd15");
  await close();
  return { source, structure, parameters };
}

/** Prepares the model's files in `folder`. */
export async function openSmallModel(folder: string): Promise<SmallModel> {
  const assets = await readDemoAssets();
  const { description } = assets;
  const basePath = join(demoFolder, description.checkpoint.file);
  const loraPath = (name: SmallAdapter) => join(demoFolder, "loras", `${name}.safetensors`);
  const { source: base, structure, parameters } = await sourceOf(basePath);
  const bakedPath = join(folder, "baked.safetensors");
  await bake({
    base: basePath,
    adapters: [{ path: loraPath("only-sevens"), strength: 1 }],
    out: bakedPath,
    family: "sd15",
    dtype: "f32",
    mode: "comfyui",
    rounding: "nearest",
  });
  const { source: baked } = await sourceOf(bakedPath);
  const target = { family: "sd15" as const, structure, parameters };
  const adapters = new Map<SmallAdapter, (strength: number) => WantedAdapter>();
  for (const name of ["only-sevens", "thick-strokes"] as const) {
    const sha256 = await native.hashFile(loraPath(name));
    const ready = await ensureDelta({ adapter: { path: loraPath(name), sha256 }, target, mode: "comfyui", folder }, native);
    const touches = { parameters: [...touchedParameters(ready.header.terms)], reshapes: [] };
    adapters.set(name, (strength) => ({ id: name, file: { delta: ready.path, sha256, strength }, touches }));
  }
  const wantedOf = (checkpoint: string, source: CheckpointSource, stack: SmallStack): Wanted => {
    const chosen = stack.flatMap(([name, strength]) => adapters.get(name)?.(strength) ?? []);
    return {
      desired: { checkpoint, stack: chosen.map(({ file }) => ({ sha256: file.sha256, strength: file.strength })) },
      checkpoint: source,
      adapters: chosen,
    };
  };
  const replacedPath = join(folder, "replaced.safetensors");
  await copyFile(basePath, replacedPath);
  const { source: before } = await sourceOf(replacedPath);
  await copyFile(bakedPath, replacedPath);

  const { seeds } = description.reference;
  const [channels, rows, columns] = description.latent.shape;
  const inputsAt = stepInputs(assets, seeds.length);
  const reference = await readReference(description);
  const shapes = Object.fromEntries(parameters);
  return {
    spec: (hostKind, precision) => ({
      structure,
      precision,
      profile: "any",
      hostKind,
      graph: { folder: join(packageRoot, "graphs", "demo"), variant: precision === "f32" ? "fp32" : "fp16" },
      parameters: { names: Object.keys(shapes), fixed: new Set(), shapes },
    }),
    layers: adapters.get("only-sevens")?.(1).touches.parameters.length ?? 0,
    rank: demoRank,
    wanted: (checkpoint, stack) => wantedOf(checkpoint, checkpoint === "base" ? base : baked, stack),
    inputs: inputsAt(reference.get("base") ?? new Float32Array(seeds.length * channels * rows * columns), 499),
    draw: (step) => sample(description, seeds, (latents, timestep) => step(inputsAt(latents, timestep))),
    reference: (name) => reference.get(name) ?? new Float32Array(),
    tolerance: description.reference.tolerance,
    replaced: wantedOf("replaced", before, []),
  };
}

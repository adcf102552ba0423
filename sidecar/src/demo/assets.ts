import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { native } from "@refit-sidecar/native";
import { Failure } from "../failure/index.ts";
import { packageRoot } from "../package-root.ts";

/** Where the demo's model lies inside the package (docs/develop/demo-model.md). */
export const demoFolder = join(packageRoot, "demo");

export interface SamplerStep {
  readonly timestep: number;
  /** Cumulative signal share before and after the step. */
  readonly alpha: number;
  readonly alphaNext: number;
}

export interface DemoLora {
  readonly file: string;
  readonly name: string;
  readonly effect: string;
  readonly strength: number;
}

/** The part of `demo.json` that the demo uses. */
export interface DemoDescription {
  readonly checkpoint: { readonly file: string; readonly structure: string };
  readonly loras: readonly DemoLora[];
  readonly promisedSevens: number;
  readonly picture: {
    readonly height: number;
    readonly width: number;
    readonly fold: number;
    readonly mean: number;
    readonly deviation: number;
    readonly contrast: number;
  };
  readonly latent: { readonly shape: readonly [number, number, number] };
  readonly conditioning: {
    readonly file: string;
    readonly tensor: string;
    readonly shape: readonly [number, number, number];
    readonly nullRow: number;
  };
  readonly sampler: { readonly clip: readonly [number, number]; readonly steps: readonly SamplerStep[] };
  readonly noise: {
    readonly seeds: readonly number[];
    readonly columns: number;
    readonly check: readonly { readonly seed: number; readonly first: readonly number[] }[];
  };
  readonly classifier: string;
  readonly reference: {
    readonly file: string;
    readonly seeds: readonly number[];
    readonly tensors: readonly string[];
    readonly tolerance: number;
  };
}

export interface Layer {
  readonly weight: Float32Array;
  readonly bias: Float32Array;
  readonly inputs: number;
  readonly outputs: number;
}

export interface DemoAssets {
  readonly description: DemoDescription;
  /** [tokens, width] of "no class". */
  readonly conditioning: Float32Array;
  /** Fully connected layers, ReLU between them. */
  readonly classifier: readonly Layer[];
}

async function readTensors(path: string): Promise<Map<string, { readonly shape: readonly number[]; readonly values: Float32Array }>> {
  const file = await native.openTensorFile(path);
  try {
    const tensors = new Map<string, { shape: readonly number[]; values: Float32Array }>();
    for (const { name, dtype, shape } of file.header.entries.values()) {
      if (dtype !== "F32")
        throw new Failure(
          "DEMO_ASSETS",
          `expected ${name} of the demo's files in F32, got ${dtype}; restore sidecar/demo from the repository`,
          {},
        );
      tensors.set(name, { shape, values: new Float32Array(Uint8Array.from(await file.read(name)).buffer) });
    }
    return tensors;
  } finally {
    await file.close();
  }
}

function taken<Value>(tensors: ReadonlyMap<string, Value>, name: string): Value {
  const tensor = tensors.get(name);
  if (!tensor) throw new Failure("DEMO_ASSETS", `the demo's files lack ${name}; restore sidecar/demo from the repository`, {});
  return tensor;
}

/** Reads everything the demo draws with. `folder` holds demo.json. */
export async function readDemoAssets(folder = demoFolder): Promise<DemoAssets> {
  const description = JSON.parse(await readFile(join(folder, "demo.json"), "utf8")) as DemoDescription;
  const [, tokens, width] = description.conditioning.shape;
  const { values } = taken(await readTensors(join(folder, description.conditioning.file)), description.conditioning.tensor);
  const from = description.conditioning.nullRow * tokens * width;
  const spec = JSON.parse(await readFile(join(folder, description.classifier), "utf8")) as {
    readonly file: string;
    readonly layers: readonly { readonly weight: string; readonly bias: string }[];
  };
  const weights = await readTensors(join(folder, spec.file));
  const classifier = spec.layers.map(({ weight, bias }) => {
    const matrix = taken(weights, weight);
    return { weight: matrix.values, bias: taken(weights, bias).values, outputs: matrix.shape[0] ?? 0, inputs: matrix.shape[1] ?? 0 };
  });
  return { description, conditioning: values.slice(from, from + tokens * width), classifier };
}

/** Final latents that PyTorch computed for `reference.seeds`, by LoRA name ("base" without one). */
export async function readReference(description: DemoDescription, folder = demoFolder): Promise<ReadonlyMap<string, Float32Array>> {
  const tensors = await readTensors(join(folder, description.reference.file));
  return new Map([...tensors].map(([name, { values }]) => [name, values]));
}

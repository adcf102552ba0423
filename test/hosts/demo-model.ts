// The shipped demo model as hosts and engines take it: files, graph, adapters as deltas, and one denoiser call with PyTorch's answers.

import { fileURLToPath } from "node:url";
import { native } from "../../native/ts/index.ts";
import type { FrameTensor } from "../../protocol/src/index.ts";
import { readCheckpointSource } from "../../sidecar/src/catalog/index.ts";
import type { CheckpointSource } from "../../sidecar/src/catalog/index.ts";
import { ensureDelta } from "../../sidecar/src/delta/index.ts";
import type { EngineSpec, Wanted, WantedAdapter } from "../../sidecar/src/refit/index.ts";
import { touchedParameters } from "../../sidecar/src/terms/index.ts";
import { loadTensors, type GoldenTensor } from "../golden/cases.ts";

const at = (relative: string): string => fileURLToPath(new URL(`../../sidecar/${relative}`, import.meta.url));
export const demoGraph = at("graphs/demo");
export const demoCheckpoint = at("demo/demo-unet.safetensors");
export const demoStructure = "138af548d8862faf3fa8031d97215fc1de134dd12ca83a3704302a47703aa1eb";

/** One denoiser call on the demo model: inputs, and diffusers + peft's outputs for `demoStacks`. Made by test/python/parity/reference.py; test/hosts/parity.e2e.test.ts makes it again. */
export const goldenSteps = fileURLToPath(new URL("./golden/demo-steps.safetensors", import.meta.url));

export type NamedStack = readonly (readonly [name: "only-sevens" | "thick-strokes", strength: number])[];
export const demoStacks: readonly NamedStack[] = [
  [],
  [["only-sevens", 0.8]],
  [["thick-strokes", -0.3]],
  [
    ["only-sevens", 0.8],
    ["thick-strokes", -0.3],
  ],
];
export const loraFile = (name: string): string => at(`demo/loras/${name}.safetensors`);

export async function demoSource(): Promise<CheckpointSource> {
  return readCheckpointSource([demoCheckpoint]);
}

/** Packs an adapter into a delta below `folder`. */
export async function adapterOf(
  path: string,
  source: CheckpointSource,
  structure: string,
  family: "sd15" | "sdxl",
  folder: string,
): Promise<(strength: number) => WantedAdapter> {
  const sha256 = await native.hashFile(path);
  const parameters = new Map(Object.entries(source.parameters).map(([name, { shape }]) => [name, shape]));
  const ready = await ensureDelta(
    { adapter: { path, sha256 }, target: { family, structure, parameters }, mode: "comfyui", folder },
    native,
  );
  const touches = { parameters: [...touchedParameters(ready.header.terms)], reshapes: [] };
  return (strength) => ({ id: path, file: { delta: ready.path, sha256, strength }, touches });
}

/** Desired states of the demo model by named stack. */
export async function demoStates(folder: string): Promise<(stack: NamedStack) => Wanted> {
  const checkpoint = await demoSource();
  const adapters = new Map<string, (strength: number) => WantedAdapter>();
  for (const name of ["only-sevens", "thick-strokes"])
    adapters.set(name, await adapterOf(loraFile(name), checkpoint, demoStructure, "sd15", folder));
  return (stack) => {
    const list = stack.map(([name, strength]) => {
      const adapter = adapters.get(name);
      if (adapter === undefined) throw new TypeError(`the demo has no adapter ${name}`);
      return adapter(strength);
    });
    return wantedOf("demo", checkpoint, list);
  };
}

export function wantedOf(name: string, checkpoint: CheckpointSource, adapters: readonly WantedAdapter[]): Wanted {
  return {
    desired: { checkpoint: name, stack: adapters.map(({ file }) => ({ sha256: file.sha256, strength: file.strength })) },
    checkpoint,
    adapters,
  };
}

export function specOf(source: CheckpointSource, folder: string, structure: string, hostKind = "onnxruntime"): EngineSpec {
  const shapes = Object.fromEntries(Object.entries(source.parameters).map(([name, { shape }]) => [name, shape]));
  return {
    structure,
    precision: "f32",
    profile: "any",
    hostKind,
    graph: { folder, variant: "fp32" },
    parameters: { names: Object.keys(shapes), fixed: new Set(), shapes },
  };
}

/** Inputs and outputs of a file written by reference.py. */
export function readSteps(path: string): { inputs: FrameTensor[]; outputs: Float32Array[] } {
  const tensors = loadTensors(path);
  const floats = ({ data }: GoldenTensor): Float32Array => new Float32Array(data.slice().buffer);
  const inputs = [...tensors]
    .filter(([name]) => !name.startsWith("out."))
    .map(([name, { shape, data }]): FrameTensor => ({ name, dtype: "f32", shape, data }));
  const outputs = [...tensors]
    .filter(([name]) => name.startsWith("out."))
    .sort(([a], [b]) => Number(a.slice(4)) - Number(b.slice(4)))
    .map(([, tensor]) => floats(tensor));
  return { inputs, outputs };
}

/** Largest difference over the largest value expected. */
export function relativeError(got: Float32Array, expected: Float32Array): number {
  let difference = got.length === expected.length ? 0 : Infinity;
  let largest = 0;
  for (const [index, value] of expected.entries()) {
    difference = Math.max(difference, Math.abs((got[index] ?? NaN) - value));
    largest = Math.max(largest, Math.abs(value));
  }
  // Math.max forgets a NaN when a later value is larger than nothing; an infinite error does not.
  return got.some((value) => Number.isNaN(value)) ? Infinity : difference / largest;
}

// What the fault tests share: reference outputs of a fresh engine.

import { demoCheckpoint, demoLora, idOf, output, startBench, type Bench, type Stack } from "../sidecar/pipeline/harness.ts";

export const loraNames = ["only-sevens", "small", "thick-strokes"] as const;
export const fill = (place: Bench["place"]): void => {
  place("checkpoints", "demo.safetensors", demoCheckpoint);
  for (const name of loraNames) place("loras", `${name}.safetensors`, demoLora(name));
};

/** Stacks by file name, so that they mean the same on every bench. */
export const stacks: readonly (readonly (readonly [name: string, strength: number])[])[] = [
  [],
  [["only-sevens", 0.8]],
  [
    ["thick-strokes", 1],
    ["small", -0.5],
  ],
  [
    ["small", 0.7],
    ["only-sevens", 0.3],
    ["thick-strokes", 0.2],
  ],
];

export interface World {
  readonly checkpoint: string;
  readonly stacks: readonly (readonly Stack[])[];
}

/** Ids on this bench. */
export async function worldOf(bench: Bench): Promise<World> {
  const ids = new Map<string, string>();
  for (const name of loraNames) ids.set(name, await idOf(bench, "adapter", `${name}.safetensors`));
  return {
    checkpoint: await idOf(bench, "checkpoint", "demo.safetensors"),
    stacks: stacks.map((stack) => stack.map(([name, strength]) => ({ adapter: ids.get(name) ?? "", strength }))),
  };
}

/** What each stack computes on an engine that nothing ever happened to. */
export async function freshOutputs(): Promise<readonly Buffer[]> {
  const bench = await startBench({ fill });
  try {
    const world = await worldOf(bench);
    const outputs: Buffer[] = [];
    for (const stack of world.stacks) outputs.push(await output(bench, world.checkpoint, stack));
    return outputs;
  } finally {
    await bench.close();
  }
}

export const sorted = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b);
export const median = (values: readonly number[]): number => sorted(values)[values.length >> 1] ?? Number.NaN;
export const spread = (values: readonly number[]): string =>
  `median ${Math.round(median(values))} ms, largest ${Math.round(sorted(values).at(-1) ?? Number.NaN)} ms`;

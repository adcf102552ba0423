// Files that a host reads: checkpoints and delta files, and the arithmetic that says what must come out of them.

import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { native, writeSafetensors } from "../../native/ts/index.ts";
import type { Dtype } from "../../native/ts/index.ts";
import type { CheckpointSource } from "../../sidecar/src/catalog/types.ts";
import type { RefitPlan, StackItem } from "../../sidecar/src/plan/index.ts";
import { checksTensorName, deltaMetadataKey, encodeChecks, factorCrc } from "../../sidecar/src/terms/index.ts";
import type { Term } from "../../sidecar/src/terms/index.ts";

export interface Values {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}
export type Parameters = Readonly<Record<string, Values>>;

/** Small, repeatable pseudo-random numbers in [-1, 1), exact in f16 (multiples of 2^-8). */
export function noise(seed: number): () => number {
  let state = (seed * 2654435761) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (((state >>> 0) % 512) - 256) / 256;
  };
}

export function randomValues(shape: readonly number[], seed: number): Values {
  const next = noise(seed);
  return { shape, data: Float32Array.from({ length: shape.reduce((product, dimension) => product * dimension, 1) }, next) };
}

export const bytesOf = (data: Float32Array): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
export const floatsOf = (bytes: Uint8Array): Float32Array => new Float32Array(bytes.slice().buffer);

async function encoded(values: Values, dtype: "F32" | "F16" | "BF16"): Promise<Uint8Array> {
  const out = new Uint8Array(values.data.length * (dtype === "F32" ? 4 : 2));
  await native.convert(bytesOf(values.data), "F32", out, dtype, values.data.length);
  return out;
}

export const prefix = "model.diffusion_model.";

export async function writeCheckpoint(
  path: string,
  parameters: Parameters,
  dtype: "F32" | "F16" | "BF16" = "F32",
): Promise<CheckpointSource> {
  await writeSafetensors(
    path,
    await Promise.all(
      Object.entries(parameters).map(async ([name, values]) => ({
        name: prefix + name,
        dtype: dtype as Dtype,
        shape: values.shape,
        data: await encoded(values, dtype),
      })),
    ),
  );
  return sourceOf(path, parameters, dtype);
}

export async function sourceOf(
  path: string,
  parameters: Readonly<Record<string, { readonly shape: readonly number[] }>>,
  dtype: Dtype,
): Promise<CheckpointSource> {
  const stamp = await stat(path, { bigint: true });
  return {
    files: [{ path, sizeBytes: Number(stamp.size), mtimeNs: String(stamp.mtimeNs), inode: String(stamp.ino) }],
    parameters: Object.fromEntries(
      Object.entries(parameters).map(([name, { shape }]) => [
        name,
        { shape, pieces: [{ file: 0, key: prefix + name, dtype, start: 0, length: shape[0] ?? 1, swapHalves: false }] },
      ]),
    ),
  };
}

export interface LowRank {
  readonly parameter: string;
  readonly up: Values;
  readonly down: Values;
  readonly scale: number;
}

export interface Adapter {
  readonly sha256: string;
  readonly delta: string;
  readonly terms: readonly LowRank[];
}

export const hashOf = (text: string): string => createHash("sha256").update(text).digest("hex");

/** What the metadata of a delta file holds besides what a test is about. */
export const deltaHeader = (adapter: string, terms: readonly unknown[]) => ({
  formatVersion: 1,
  adapter,
  structure: hashOf("structure"),
  family: "sd15",
  mode: "comfyui",
  terms,
  sources: {},
  report: { used: [], ignored: [], failed: [] },
  warnings: [],
  problem: null,
  bytes: 0,
});

/** A delta file whose metadata says what it is told to say; its checksums are right, unless `changes` alters factors behind their back. */
export async function writeDelta(
  path: string,
  metadata: unknown,
  factors: Readonly<Record<string, Values>>,
  changes: Readonly<Record<string, Values>> = {},
): Promise<void> {
  const text = typeof metadata === "string" ? metadata : JSON.stringify(metadata);
  const checks = new Map(
    Object.entries(factors).map(([name, { data }]) => [
      name,
      { crc: factorCrc(bytesOf(data)), finite: data.every((value) => Number.isFinite(value)) },
    ]),
  );
  const table = encodeChecks(checks, text);
  await writeSafetensors(
    path,
    [
      ...Object.entries({ ...factors, ...changes }).map(([name, values]) => ({
        name,
        dtype: "F32" as const,
        shape: values.shape,
        data: bytesOf(values.data),
      })),
      { name: checksTensorName, dtype: "U8" as const, shape: [table.byteLength], data: table },
    ],
    { [deltaMetadataKey]: text },
  );
}

export async function writeAdapter(folder: string, name: string, terms: readonly LowRank[]): Promise<Adapter> {
  const sha256 = hashOf(name);
  const delta = join(folder, `${name}.delta`);
  const list: Term[] = terms.map(({ parameter, scale }) => ({
    kind: "lowRank",
    target: { parameter },
    scale,
    up: `${parameter}.up`,
    down: `${parameter}.down`,
    sourceKeys: [],
  }));
  await writeDelta(
    delta,
    deltaHeader(sha256, list),
    Object.fromEntries(
      terms.flatMap(({ parameter, up, down }) => [
        [`${parameter}.up`, up],
        [`${parameter}.down`, down],
      ]),
    ),
  );
  return { sha256, delta, terms };
}

export interface Stacked {
  readonly adapter: Adapter;
  readonly strength: number;
}
export const stackFiles = (stack: readonly Stacked[]) =>
  stack.map(({ adapter, strength }) => ({ delta: adapter.delta, sha256: adapter.sha256, strength }));
export const stackItems = (stack: readonly Stacked[]): StackItem[] =>
  stack.map(({ adapter, strength }) => ({ sha256: adapter.sha256, strength }));

/** W + sum(strength * scale * up * down) in double precision: the plainest statement of the merge. */
export function merged(base: Parameters, stack: readonly Stacked[]): Record<string, Float64Array> {
  const result: Record<string, Float64Array> = {};
  for (const [name, { data }] of Object.entries(base)) result[name] = Float64Array.from(data);
  for (const { adapter, strength } of stack) {
    for (const { parameter, up, down, scale } of adapter.terms) {
      const target = result[parameter];
      if (target === undefined) continue;
      const rank = down.shape[0] ?? 0;
      const rows = up.shape[0] ?? 0;
      const cols = target.length / rows;
      for (let row = 0; row < rows; row++) {
        for (let col = 0; col < cols; col++) {
          let sum = 0;
          for (let k = 0; k < rank; k++) sum += (up.data[row * rank + k] ?? 0) * (down.data[k * cols + col] ?? 0);
          target[row * cols + col] = (target[row * cols + col] ?? 0) + strength * scale * sum;
        }
      }
    }
  }
  return result;
}

export function fullPlan(parameters: Parameters, stack: readonly Stacked[], checkpoint = "base"): RefitPlan {
  return {
    from: null,
    to: { checkpoint, stack: stackItems(stack) },
    full: true,
    writes: Object.keys(parameters).map((parameter) => ({ parameter, reason: "base" as const })),
  };
}

// Adapter files on disk for tests, with values from a small generator so that runs repeat.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { writeSafetensors, type Dtype } from "@refit-sidecar/native";
import type { DeltaRequest } from "../../../sidecar/src/delta/index.ts";
import { sd15 } from "./small-structures.ts";

/** Numbers in [-1, 1): mulberry32. */
export function numbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 2147483648 - 1;
  };
}

export interface GivenTensor {
  readonly shape: readonly number[];
  readonly dtype?: Dtype;
  readonly values?: readonly number[];
}

export async function writeAdapter(
  path: string,
  tensors: Readonly<Record<string, GivenTensor>>,
  metadata: Record<string, string> = {},
  seed = 1,
): Promise<string> {
  const next = numbers(seed);
  await writeSafetensors(
    path,
    Object.entries(tensors).map(([name, { shape, dtype, values }]) => {
      const count = shape.reduce((product, dim) => product * dim, 1);
      const data = Float32Array.from({ length: count }, (_, index) => values?.[index] ?? next());
      if (dtype !== undefined && dtype !== "F32") return { name, dtype, shape, data: new Uint8Array(count * (dtype === "I64" ? 8 : 2)) };
      return { name, dtype: "F32" as const, shape, data: new Uint8Array(data.buffer) };
    }),
    metadata,
  );
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

export const toQ = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
export const loraQ: Readonly<Record<string, GivenTensor>> = {
  [`${toQ}.lora_up.weight`]: { shape: [16, 4] },
  [`${toQ}.lora_down.weight`]: { shape: [4, 16] },
};
export const target: DeltaRequest["target"] = { family: "sd15", structure: "5d".repeat(32), parameters: sd15 };

// Headers of real models (name → shape), and headers made up from shapes.

import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import type { Tensors } from "../../../sidecar/src/catalog/index.ts";

const golden = new URL("../../golden/", import.meta.url);

export interface Expected {
  readonly comfy_class: string;
  readonly tensors: number;
  readonly unet_config: Readonly<Record<string, unknown>>;
}

export const expected = JSON.parse(readFileSync(new URL("detect.json", golden), "utf8")) as Readonly<Record<string, Expected>>;

export function realHeader(model: string): Record<string, number[]> {
  return JSON.parse(gunzipSync(readFileSync(new URL(`headers/${model}.json.gz`, golden))).toString("utf8")) as Record<string, number[]>;
}

export function shapes(header: Readonly<Record<string, readonly number[]>>): Map<string, readonly number[]> {
  return new Map(Object.entries(header));
}

type Dtype = "F16" | "BF16" | "F32" | "F8_E4M3";

export function tensors(header: Readonly<Record<string, readonly number[]>>, prefix = "", dtype: Dtype = "F16"): Tensors {
  return new Map(Object.entries(header).map(([name, shape]) => [prefix + name, { dtype, shape }]));
}

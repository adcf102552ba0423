// Cases made with ComfyUI 0.33 on quantised checkpoints, and a reader of the layouts that shares no code with ours (f64, element by element).

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { familyNames } from "../../protocol/src/index.ts";
import type { Family } from "../../sidecar/src/catalog/types.ts";
import { loadTensors, values, type GoldenTensor } from "../golden/cases.ts";

const folder = fileURLToPath(new URL("./", import.meta.url));
export const quantisedPath = (relative: string): string => folder + relative;

interface Share {
  readonly kept_projection: number;
  readonly lost_share: number;
}

export interface QuantisedCase {
  readonly name: string;
  readonly family: Family;
  readonly structure: string;
  readonly kind: string;
  readonly style: string;
  readonly base: string;
  readonly adapters: readonly { readonly file: string; readonly strength: number }[];
  readonly expected: string;
  readonly touched: readonly string[];
  readonly quantisation?: { readonly layers: Readonly<Record<string, Description>> };
  readonly kept_projection?: number;
  readonly lost_share?: number;
  readonly rounded_to_nearest?: Share;
}

interface Description {
  readonly format?: string;
  readonly convrot?: boolean;
  readonly convrot_groupsize?: number;
  readonly params?: Description;
}

const known: ReadonlySet<string> = new Set(familyNames);

/** Cases of the families that are known. */
export function quantisedCases(): readonly QuantisedCase[] {
  const { cases } = JSON.parse(readFileSync(`${folder}quantised.json`, "utf8")) as { cases: QuantisedCase[] };
  return cases.filter(({ family }) => known.has(family));
}

export const loadQuantised = (relative: string): Map<string, GoldenTensor> => loadTensors(quantisedPath(relative));

/** Values of a tensor and the distance to the neighbouring code at each place. */
export interface Stored {
  readonly values: Float64Array;
  readonly steps: Float64Array;
}

const e2m1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
const product = (shape: readonly number[]): number => shape.reduce((total, dim) => total * dim, 1);
const binade = (value: number, least: number): number => 2 ** Math.floor(Math.log2(Math.max(Math.abs(value), 2 ** least)));

function tile(row: number, block: number, blocks: number): number {
  return (
    (Math.floor(row / 128) * Math.ceil(blocks / 4) + Math.floor(block / 4)) * 512 +
    (row % 32) * 16 +
    Math.floor((row % 128) / 32) * 4 +
    (block % 4)
  );
}

/** The value that `key` stands for. `shape` is the layer's own. */
export function storedValues(
  tensors: ReadonlyMap<string, GoldenTensor>,
  key: string,
  description: Description,
  shape: readonly number[],
): Stored {
  const tensor = tensors.get(key);
  if (tensor === undefined) throw new Error(`no tensor ${key}`);
  const stem = key.slice(0, -"weight".length);
  const count = product(shape);
  const out: Stored = { values: new Float64Array(count), steps: new Float64Array(count) };
  const scale = tensors.get(`${stem}weight_scale`) ?? tensors.get(`${stem}scale_weight`);
  const columns = product(shape.slice(1));
  const mantissa: Readonly<Record<string, number>> = { F32: 23, F16: 10, BF16: 7 };
  const bits = mantissa[tensor.dtype];
  if (bits !== undefined) {
    values(tensor).forEach((value, i) => {
      out.values[i] = value;
      out.steps[i] = binade(value, -100) / 2 ** bits;
    });
    return out;
  }
  if (scale === undefined) throw new Error(`no scale of ${key}`);
  const format = description.format ?? "";
  if (format === "nvfp4" || format === "mxfp8") {
    const width = (tensor.shape[1] ?? 0) * (format === "nvfp4" ? 2 : 1);
    const size = format === "nvfp4" ? 16 : 32;
    const whole = format === "nvfp4" ? (values(tensors.get(`${stem}weight_scale_2`)!)[0] ?? 1) : 1;
    const scales = format === "nvfp4" ? values({ ...scale, dtype: "F8_E4M3" }) : [...scale.data].map((code) => 2 ** (code - 127));
    const codes = format === "nvfp4" ? null : values(tensor);
    for (let i = 0; i < count; i += 1) {
      const [row, column] = [Math.floor(i / columns), i % columns];
      const factor = (scales[tile(row, Math.floor(column / size), width / size)] ?? 0) * whole;
      const at = row * width + column;
      const nibble = ((tensor.data[at >> 1] ?? 0) >> (at % 2 === 0 ? 4 : 0)) & 15;
      const code = codes === null ? (e2m1[nibble & 7] ?? 0) * (nibble > 7 ? -1 : 1) : (codes[at] ?? 0);
      out.values[i] = code * factor;
      out.steps[i] = (codes === null ? (Math.abs(code) >= 4 ? 2 : Math.abs(code) >= 2 ? 1 : 0.5) : binade(code, -6) / 8) * factor;
    }
    return out;
  }
  const numbers = values(scale);
  const codes =
    tensor.dtype === "I8" ? [...new Int8Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength)] : values(tensor);
  for (let i = 0; i < count; i += 1) {
    const factor = numbers[numbers.length === 1 ? 0 : Math.floor(i / columns)] ?? 0;
    const code = codes[i] ?? 0;
    out.values[i] = code * factor;
    out.steps[i] = factor * (tensor.dtype === "I8" ? 1 : tensor.dtype === "F8_E4M3" ? binade(code, -6) / 8 : binade(code, -14) / 4);
  }
  const settings = description.params ?? description;
  if (settings.convrot === true) turn(out, columns, settings.convrot_groupsize ?? 256);
  return out;
}

/** Rows times the rotation, written out as the matrix that it is. */
function turn(out: Stored, columns: number, group: number): void {
  let matrix = [
    [1, 1, 1, -1],
    [1, 1, -1, 1],
    [1, -1, 1, 1],
    [-1, 1, 1, 1],
  ];
  const four = matrix;
  while (matrix.length < group) matrix = matrix.flatMap((row) => four.map((inner) => row.flatMap((a) => inner.map((b) => a * b))));
  for (let start = 0; start < out.values.length; start += group) {
    if (start % columns > columns - group) throw new Error("a row that is no whole number of groups");
    const before = out.values.slice(start, start + group);
    for (let j = 0; j < group; j += 1) {
      out.values[start + j] = before.reduce((sum, value, i) => sum + value * (matrix[i]?.[j] ?? 0), 0) / Math.sqrt(group);
      // In the worst case every rotated code is one step off.
      out.steps[start + j] = (out.steps[start + j] ?? 0) * Math.sqrt(group);
    }
  }
}

/** Where an output differs from what ComfyUI's f32 result is, by more than one step of its format. `exact`: 1e-6 relative, for a base written as f32. */
export function quantisedMismatches(golden: QuantisedCase, tensors: ReadonlyMap<string, GoldenTensor>): string[] {
  const expected = loadQuantised(golden.expected);
  const exact = golden.kind === "quantised-base";
  const keys = exact ? [...expected.keys()].filter((key) => !key.includes("__")) : golden.touched;
  return keys.flatMap((key) => {
    const wanted = expected.get(`${key}.__intended__`) ?? expected.get(`${key}.__f32__`) ?? expected.get(key);
    if (wanted === undefined) return [`nothing is expected of ${key}`];
    const got = storedValues(tensors, key, golden.quantisation?.layers[key] ?? {}, wanted.shape);
    const numbers = values(wanted);
    if (exact && tensors.get(key)?.shape.join() !== wanted.shape.join()) return [`${key}: shape ${tensors.get(key)?.shape.join()}`];
    const bad = [...numbers].findIndex(
      (value, i) =>
        !(Math.abs((got.values[i] ?? NaN) - value) <= (exact ? 1e-6 + 1e-5 * Math.abs(value) : 1.01 * (got.steps[i] ?? 0) + 1e-6)),
    );
    return bad < 0 ? [] : [`${key}[${bad}]: ${got.values[bad]} where ${numbers[bad]} is expected`];
  });
}

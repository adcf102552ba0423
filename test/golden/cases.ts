// The golden cases as every consumer runs them: evaluator, `merge` on the command line, live refits through the host protocol.
// A consumer produces tensors by file key; `mismatches` says where they differ from ComfyUI's, within each case's stated tolerance.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Family } from "../../sidecar/src/catalog/types.ts";

export const goldenFolder = fileURLToPath(new URL("./", import.meta.url));

export interface GoldenCase {
  readonly name: string;
  readonly family: Family;
  readonly kind: string;
  readonly base: string;
  readonly key_prefix: string;
  readonly adapters: readonly { readonly file: string; readonly strength: number }[];
  readonly expected: string;
  readonly touched: readonly string[];
  readonly changed: readonly string[];
  readonly ignored_adapter_keys: readonly string[];
  readonly not_loaded_targets: readonly string[];
  readonly runtime_messages: readonly string[];
  readonly base_dtype: string;
  readonly compare: string;
  readonly note: string;
  /** What ComfyUI raises; the expected file then holds what it should have made. */
  readonly comfy_error?: string;
}

export interface GoldenTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

export function goldenCases(): readonly GoldenCase[] {
  return (JSON.parse(readFileSync(`${goldenFolder}cases.json`, "utf8")) as { cases: GoldenCase[] }).cases;
}

/** Cases of the described families (test/golden2), with paths that `goldenPath` takes. */
export function describedCases(): readonly GoldenCase[] {
  const { cases } = JSON.parse(readFileSync(`${goldenFolder}../golden2/cases.json`, "utf8")) as { cases: GoldenCase[] };
  const beside = (file: string): string => `../golden2/${file}`;
  return cases.map((one) => ({
    ...one,
    base: beside(one.base),
    expected: beside(one.expected),
    adapters: one.adapters.map(({ file, strength }) => ({ file: beside(file), strength })),
  }));
}

export const goldenPath = (relative: string): string => goldenFolder + relative;

/** A small safetensors reader of its own: the vectors are trusted, and the code under test must not check itself. */
export function loadTensors(path: string): Map<string, GoldenTensor> {
  const file = readFileSync(path);
  const length = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + length).toString("utf8")) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  delete header["__metadata__"];
  return new Map(
    Object.entries(header).map(([name, { dtype, shape, data_offsets }]) => [
      name,
      { dtype, shape, data: Uint8Array.prototype.slice.call(file, 8 + length + data_offsets[0], 8 + length + data_offsets[1]) },
    ]),
  );
}

const minifloats = { F16: { mantissa: 10, bias: 15 }, F8_E4M3: { mantissa: 3, bias: 7 }, F8_E5M2: { mantissa: 2, bias: 15 } } as const;
const largest: Readonly<Record<string, number>> = { F16: 65504, F8_E4M3: 448, F8_E5M2: 57344 };

function decodeMinifloat(code: number, bits: number, { mantissa, bias }: { mantissa: number; bias: number }, e4m3: boolean): number {
  const sign = code >> (bits - 1) ? -1 : 1;
  const exponent = (code >> mantissa) & ((1 << (bits - 1 - mantissa)) - 1);
  const fraction = code & ((1 << mantissa) - 1);
  const top = (1 << (bits - 1 - mantissa)) - 1;
  if (exponent === top && !e4m3) return fraction === 0 ? sign * Infinity : NaN;
  if (e4m3 && exponent === top && fraction === (1 << mantissa) - 1) return NaN;
  return exponent === 0 ? sign * fraction * 2 ** (1 - bias - mantissa) : sign * (1 + fraction / (1 << mantissa)) * 2 ** (exponent - bias);
}

/** Values as numbers, exact for every dtype of the vectors. */
export function values({ dtype, data }: GoldenTensor): Float64Array {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const read = (size: number, at: (offset: number) => number): Float64Array =>
    Float64Array.from({ length: data.byteLength / size }, (_, i) => at(i * size));
  switch (dtype) {
    case "F32":
      return read(4, (at) => view.getFloat32(at, true));
    case "F64":
      return read(8, (at) => view.getFloat64(at, true));
    case "BF16": {
      const scratch = new DataView(new ArrayBuffer(4));
      return read(2, (at) => (scratch.setUint32(0, view.getUint16(at, true) << 16), scratch.getFloat32(0)));
    }
    case "F16":
      return read(2, (at) => decodeMinifloat(view.getUint16(at, true), 16, minifloats.F16, false));
    case "F8_E4M3":
      return read(1, (at) => decodeMinifloat(view.getUint8(at), 8, minifloats.F8_E4M3, true));
    case "F8_E5M2":
      return read(1, (at) => decodeMinifloat(view.getUint8(at), 8, minifloats.F8_E5M2, false));
    default:
      throw new Error(`the vectors have no ${dtype}`);
  }
}

/** Distance between neighbours around `value` in a narrow dtype. */
function ulp(value: number, dtype: string): number {
  const { mantissa, bias } = dtype === "BF16" ? { mantissa: 7, bias: 127 } : minifloats[dtype as keyof typeof minifloats];
  const exponent = Math.max(1 - bias, Math.floor(Math.log2(Math.max(Math.abs(value), Number.MIN_VALUE))));
  return 2 ** (exponent - mantissa);
}

function differ(actual: number, expected: number, allowed: number): boolean {
  if (Number.isNaN(expected)) return !Number.isNaN(actual);
  return actual !== expected && !(Math.abs(actual - expected) <= allowed);
}

export interface CompareOptions {
  /** Compare with the mathematically right result where ComfyUI itself fails (extended mode). */
  readonly intended?: boolean;
}

/** Every difference between a run's tensors (by file key) and the case's expectation; empty when it holds. */
export function mismatches(golden: GoldenCase, actual: ReadonlyMap<string, GoldenTensor>, options: CompareOptions = {}): string[] {
  const base = loadTensors(goldenPath(golden.base));
  const expected = loadTensors(goldenPath(golden.expected));
  const problems: string[] = [];
  for (const [key, tensor] of base) {
    const got = actual.get(key);
    // The scale of a merged fp8 weight is computed anew, as ComfyUI has done since 0.4.
    const scales = key.endsWith(".scale_weight") && expected.has(key.replace(/\.scale_weight$/, ".weight"));
    if (!got) problems.push(`${key}: missing`);
    else if (!scales && !expected.has(key) && Buffer.compare(got.data, tensor.data) !== 0)
      problems.push(`${key}: untouched by ComfyUI, but its bytes differ`);
  }
  for (const [key, plain] of expected) {
    if (key.includes(".__") || key === "__none__") continue;
    const wanted = (options.intended ? expected.get(`${key}.__intended__`) : undefined) ?? plain;
    const got = actual.get(key);
    if (got) problems.push(...compareTensor(key, got, wanted, expected.get(`${key}.__f32__`), scaleOf(actual, key)));
  }
  return problems;
}

function scaleOf(base: ReadonlyMap<string, GoldenTensor>, key: string): number {
  const scale = base.get(key.replace(/\.weight$/, ".scale_weight"));
  return scale ? (values(scale)[0] ?? 1) : 1;
}

function compareTensor(key: string, got: GoldenTensor, wanted: GoldenTensor, exact: GoldenTensor | undefined, scale: number): string[] {
  if (got.shape.join() !== wanted.shape.join()) return [`${key}: shape [${got.shape.join()}], expected [${wanted.shape.join()}]`];
  if (got.dtype !== wanted.dtype) return [`${key}: dtype ${got.dtype}, expected ${wanted.dtype}`];
  const actual = values(got);
  const reference = values(exact ?? wanted);
  const limit = largest[got.dtype] ?? Infinity;
  for (let i = 0; i < actual.length; i += 1) {
    const raw = exact ? Math.max(-limit, Math.min(limit, (reference[i] ?? 0) / scale)) : (reference[i] ?? 0);
    const allowed = got.dtype === "F32" ? 1e-5 + 1e-5 * Math.abs(raw) : ulp(raw, got.dtype) * (1 + 1e-6);
    if (differ(actual[i] ?? 0, raw, allowed)) return [`${key}[${i}]: ${actual[i]}, expected ${raw} within ${allowed}`];
  }
  return [];
}

// f32 values → codes and scales, in the way that a tensor was stored. Scales are computed anew, as ComfyUI 0.33 does when it patches a quantised weight.

import { native } from "@refit-sidecar/native";
import { blockColumns, e4m3Values, e8m0Values, tiledBytes, tiledIndex } from "./blocks.ts";
import type { Scales } from "./checkpoint-files.ts";
import { scaleColumns, type PieceGeometry } from "./decode.ts";
import { rotateRows } from "./rotation.ts";
import { roundEven, roundWhole, type Rounding } from "./rounding.ts";
import { asBytes } from "../terms/index.ts";

export interface Encoded {
  /** As the file's tensor: packed and padded where that is. */
  readonly codes: Uint8Array;
  readonly scales: Scales;
}

/** Largest value of the codes. */
const largest: Readonly<Record<string, number>> = { F8_E4M3: 448, F8_E5M2: 57344, I8: 127 };
/** nvfp4: largest code times largest block scale. */
const nvfp4Largest = 6 * 448;

function largestOf(values: Float32Array, start: number, end: number): number {
  let found = 0;
  for (let i = start; i < end; i += 1) {
    const size = Math.abs(values[i] as number);
    if (size > found) found = size;
  }
  return found;
}

/** Codes of fp8 without a scale. `values` are used up. */
export async function encodeUnscaled(
  values: Float32Array,
  dtype: "F8_E4M3" | "F8_E5M2",
  rounding: Rounding,
): Promise<{ readonly codes: Uint8Array; readonly saturated: number }> {
  const limit = largest[dtype] ?? 1;
  let saturated = 0;
  for (let i = 0; i < values.length; i += 1) if (Math.abs(values[i] as number) > limit) saturated += 1;
  return { codes: await toCodes(values, dtype, rounding), saturated };
}

/** `values` belong to the piece and are used up. `before` are the scales that the file has: one number or one a row is kept, values are new. */
export async function encodePiece(place: PieceGeometry, values: Float32Array, before: Scales, rounding: Rounding): Promise<Encoded> {
  const { piece, rows, columns } = place;
  const { storage } = piece;
  if (before.columnScale !== null)
    scaleColumns(
      values,
      before.columnScale.map((factor) => (factor === 0 ? 0 : 1 / factor)),
    );
  if (storage?.format === "nvfp4") return encodeNvfp4(place, values, before, rounding);
  if (storage?.format === "mxfp8") return encodeMxfp8(place, values, before, rounding);
  if (storage?.rotation !== undefined) rotateRows(values, rows, columns, storage.rotation);
  const perRow = before.scale.length > 1;
  const limit = limitOf(piece.dtype, storage?.scale);
  const scale = new Float32Array(perRow ? rows : 1);
  const span = perRow ? columns : values.length;
  for (let at = 0; at < scale.length; at += 1) {
    const size = largestOf(values, at * span, (at + 1) * span);
    const factor = size > 0 && Number.isFinite(size) ? Math.max(Math.fround(size / limit), 2 ** -126) : 1;
    scale[at] = factor;
    for (let i = at * span, end = i + span; i < end; i += 1) values[i] = (values[i] as number) / factor;
  }
  return { codes: await toCodes(values, piece.dtype, rounding), scales: { ...before, scale } };
}

/** ComfyUI 0.33 reads e5m2 codes of the retired layout as e4m3 values: within that range both read the same. */
function limitOf(dtype: string, scaleKey: string | undefined): number {
  if (dtype === "F8_E5M2" && scaleKey?.endsWith(".scale_weight") === true) return 448;
  return largest[dtype] ?? 1;
}

async function toCodes(values: Float32Array, dtype: string, rounding: Rounding): Promise<Uint8Array> {
  if (dtype === "I8") {
    const codes = new Int8Array(values.length);
    // The largest value is 127 by its scale, give or take a rounding of f32.
    if (rounding.kind === "nearest") for (let i = 0; i < values.length; i += 1) codes[i] = roundEven(values[i] as number);
    else for (let i = 0; i < values.length; i += 1) codes[i] = Math.max(-127, Math.min(127, roundWhole(values[i] as number, rounding, i)));
    return new Uint8Array(codes.buffer);
  }
  const bytes = dtype === "F8_E4M3" || dtype === "F8_E5M2" ? 1 : dtype === "F32" ? 4 : 2;
  if (rounding.kind === "stochastic" && bytes === 1)
    ditherFp8(values, dtype === "F8_E4M3" ? 3 : 2, dtype === "F8_E4M3" ? -6 : -14, rounding);
  const codes = new Uint8Array(values.length * bytes);
  await native.convert(asBytes(values), "F32", codes, dtype as "F32", values.length);
  return codes;
}

/** Moves every value to one of its two neighbours among floats of so many mantissa bits. */
function ditherFp8(values: Float32Array, mantissaBits: number, smallestExponent: number, rounding: Rounding): void {
  for (let i = 0; i < values.length; i += 1) {
    const value = values[i] as number;
    if (value === 0 || !Number.isFinite(value)) continue;
    const step = 2 ** (Math.max(smallestExponent, Math.floor(Math.log2(Math.abs(value)))) - mantissaBits);
    values[i] = roundWhole(value / step, rounding, i) * step;
  }
}

function e4m3Code(value: number): number {
  // Block scales are positive: the nearest code by search, ties to even.
  let low = 0;
  let high = 126;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((e4m3Values[middle] as number) < value) low = middle + 1;
    else high = middle;
  }
  if (low === 0) return 0;
  const above = (e4m3Values[low] as number) - value;
  const below = value - (e4m3Values[low - 1] as number);
  return below < above || (below === above && low % 2 === 1) ? low - 1 : low;
}

/** Code of |value| <= 6: steps of 0.5 to 2, of 1 to 4, of 2 above. */
function e2m1Code(value: number, rounding: Rounding, index: number): number {
  const size = Math.min(6, Math.abs(value));
  if (rounding.kind === "nearest") {
    // Between two codes the even one takes the middle.
    const code =
      size <= 0.25 ? 0 : size < 0.75 ? 1 : size <= 1.25 ? 2 : size < 1.75 ? 3 : size <= 2.5 ? 4 : size < 3.5 ? 5 : size <= 5 ? 6 : 7;
    return value < 0 ? code | 8 : code;
  }
  const step = size >= 4 ? 2 : size >= 2 ? 1 : 0.5;
  const rounded = Math.min(6, roundWhole(size / step, rounding, index) * step);
  const code = rounded <= 2 ? rounded * 2 : rounded <= 4 ? rounded + 2 : 7;
  return value < 0 ? code | 8 : code;
}

function encodeNvfp4(
  { rows, columns, storedRows, storedColumns }: PieceGeometry,
  values: Float32Array,
  before: Scales,
  rounding: Rounding,
): Encoded {
  const blocks = storedColumns / blockColumns.nvfp4;
  const size = largestOf(values, 0, values.length);
  const scale2 = size > 0 ? Math.max(Math.fround(size / nvfp4Largest), 2 ** -126) : 1;
  const scale = new Uint8Array(Math.max(before.scale.length, tiledBytes(storedRows, blocks)));
  const codes = new Uint8Array((storedRows * storedColumns) / 2);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 16) {
      const start = row * columns + column;
      const end = row * columns + Math.min(columns, column + 16);
      const code = e4m3Code(Math.min(448, Math.fround(Math.fround(largestOf(values, start, end) / 6) / scale2)));
      scale[tiledIndex(row, column >> 4, blocks)] = code;
      const total = Math.fround(scale2 * (e4m3Values[code] as number));
      if (total === 0) continue;
      for (let i = start; i < end; i += 1) {
        const at = (row * storedColumns + (i - row * columns)) >> 1;
        const nibble = e2m1Code((values[i] as number) / total, rounding, i);
        codes[at] = (codes[at] as number) | (((i - row * columns) & 1) === 0 ? nibble << 4 : nibble);
      }
    }
  }
  return { codes, scales: { ...before, scale, scale2 } };
}

async function encodeMxfp8(
  { rows, columns, storedRows, storedColumns }: PieceGeometry,
  values: Float32Array,
  before: Scales,
  rounding: Rounding,
): Promise<Encoded> {
  const blocks = storedColumns / blockColumns.mxfp8;
  const scale = new Uint8Array(Math.max(before.scale.length, tiledBytes(storedRows, blocks)));
  const padded = new Float32Array(storedRows * storedColumns);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 32) {
      const start = row * columns + column;
      const end = row * columns + Math.min(columns, column + 32);
      const size = largestOf(values, start, end);
      if (size === 0) continue;
      const exponent = Math.max(0, Math.min(254, exponentAbove(Math.fround(size / 448)) + 127));
      scale[tiledIndex(row, column >> 5, blocks)] = exponent;
      const factor = e8m0Values[exponent] as number;
      for (let i = start; i < end; i += 1) padded[row * storedColumns + (i - row * columns)] = (values[i] as number) / factor;
    }
  }
  return { codes: await toCodes(padded, "F8_E4M3", rounding), scales: { ...before, scale } };
}

/** Least e with 2^e >= value > 0. */
function exponentAbove(value: number): number {
  const guess = Math.ceil(Math.log2(value));
  return 2 ** (guess - 1) >= value ? guess - 1 : guess;
}

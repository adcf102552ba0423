// Stored codes and scales → f32 values.

import { isFloatDtype, native } from "@refit-sidecar/native";
import { Failure } from "../failure/index.ts";
import { blockColumns, e2m1Values, e4m3Values, e8m0Values, tiledIndex } from "./blocks.ts";
import type { Scales, StoredParameter, StoredPiece } from "./checkpoint-files.ts";
import { rotateRows } from "./rotation.ts";
import { asBytes } from "../terms/index.ts";

/** Reads a parameter and decodes it: [rows, columns] in canonical row order. Throws what reading throws, and STORAGE_INVALID for a dtype that holds no weights. */
export async function readValues(stored: StoredParameter): Promise<Float32Array> {
  const values = new Float32Array(stored.elements);
  for (const piece of stored.pieces) {
    const codes = new Uint8Array(piece.bytes);
    await piece.readInto(codes);
    const columns = piece.columns;
    const target = values.subarray(piece.piece.start * columns, (piece.piece.start + piece.rows) * columns);
    await decodePiece(piece, codes, await piece.scales(), target);
    if (piece.piece.swapHalves) exchangeHalves(asBytes(target));
  }
  return values;
}

/** Exchanges the halves of a row-major tensor's dimension 0, in place; its own inverse. */
export function exchangeHalves(bytes: Uint8Array): void {
  const half = bytes.byteLength / 2;
  const first = bytes.slice(0, half);
  bytes.copyWithin(0, half);
  bytes.set(first, half);
}

/** What decoding needs to know of a piece. */
export type PieceGeometry = Pick<StoredPiece, "piece" | "rows" | "columns" | "storedRows" | "storedColumns">;

/** Values of a piece, in the order of the file's rows. */
export async function decodePiece(place: PieceGeometry, codes: Uint8Array, scales: Scales | null, target: Float32Array): Promise<void> {
  const { piece, rows, columns } = place;
  const { storage, dtype } = piece;
  if (storage === undefined || scales === null || storage.format === "scaled") {
    const single = scales !== null && scales.scale.length === 1 ? (scales.scale[0] ?? 1) : 1;
    await decodeNumbers(codes, dtype, target, single, piece.key);
    if (scales !== null && scales.scale.length > 1) scaleRows(target, scales.scale, columns);
    if (storage?.rotation !== undefined) rotateRows(target, rows, columns, storage.rotation);
  } else if (storage.format === "nvfp4") {
    decodeNvfp4(place, codes, scales, target);
  } else {
    await decodeMxfp8(place, codes, scales, target);
  }
  if (scales !== null && scales.columnScale !== null) scaleColumns(target, scales.columnScale);
}

async function decodeNumbers(codes: Uint8Array, dtype: string, target: Float32Array, scale: number, key: string): Promise<void> {
  if (dtype === "I8") {
    const integers = new Int8Array(codes.buffer, codes.byteOffset, codes.byteLength);
    for (let i = 0; i < target.length; i += 1) target[i] = (integers[i] as number) * scale;
    return;
  }
  if (!isFloatDtype(dtype as "F32"))
    throw new Failure(
      "STORAGE_INVALID",
      `expected ${key} in a floating-point type or quantised with its scales, the file stores ${dtype}`,
      { key, dtype },
    );
  await native.convert(codes, dtype as "F32", asBytes(target), "F32", target.length, scale);
}

function scaleRows(values: Float32Array, scale: ArrayLike<number>, columns: number): void {
  for (let row = 0, i = 0; row < scale.length; row += 1) {
    const factor = scale[row] as number;
    for (const end = i + columns; i < end; i += 1) values[i] = (values[i] as number) * factor;
  }
}

export function scaleColumns(values: Float32Array, scale: Float32Array): void {
  const columns = scale.length;
  for (let start = 0; start < values.length; start += columns)
    for (let i = 0; i < columns; i += 1) values[start + i] = (values[start + i] as number) * (scale[i] as number);
}

function decodeNvfp4(
  { rows, columns, storedColumns }: PieceGeometry,
  codes: Uint8Array,
  { scale, scale2 }: Scales,
  target: Float32Array,
): void {
  const blocks = storedColumns / blockColumns.nvfp4;
  const rowBytes = storedColumns / 2;
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 16) {
      const total = Math.fround(scale2 * (e4m3Values[scale[tiledIndex(row, column >> 4, blocks)] as number] as number));
      const end = Math.min(columns, column + 16);
      for (let i = column; i < end; i += 1) {
        const byte = codes[row * rowBytes + (i >> 1)] as number;
        target[row * columns + i] = (e2m1Values[(i & 1) === 0 ? byte >> 4 : byte & 15] as number) * total;
      }
    }
  }
}

async function decodeMxfp8(
  { rows, columns, storedColumns }: PieceGeometry,
  codes: Uint8Array,
  { scale }: Scales,
  target: Float32Array,
): Promise<void> {
  const blocks = storedColumns / blockColumns.mxfp8;
  const values = new Float32Array(rows * storedColumns);
  await native.convert(codes, "F8_E4M3", asBytes(values), "F32", values.length);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      target[row * columns + column] =
        (values[row * storedColumns + column] as number) * (e8m0Values[scale[tiledIndex(row, column >> 5, blocks)] as number] as number);
    }
  }
}

// One parameter of the output: pristine base, the stack, one rounding into the way that the file stores it.

import { isFloatDtype, native } from "@refit-sidecar/native";
import type { FloatDtype } from "@refit-sidecar/native";
import { Failure } from "../failure/index.ts";
import {
  blockColumns,
  blockPadding,
  decodePiece,
  encodePiece,
  encodeUnscaled,
  exchangeHalves,
  readMergeable,
  readValues,
  tiledIndex,
} from "../storage/index.ts";
import type { Encoded, Rounding, Scales, StoredParameter, StoredPiece } from "../storage/index.ts";
import { asBytes, elements, lossOfStored, mergeParameter, notFiniteOf } from "../terms/index.ts";
import type { Addend, MergeLoss, MergeOutcome, NotFinite } from "../terms/index.ts";

/** Output of one piece of a parameter, in the order of the file's rows; `encoded` where the file stores it quantised. */
export interface PieceOutput {
  readonly piece: StoredPiece;
  readonly data: Uint8Array;
  readonly encoded: Encoded | null;
  /** Values that fp8 without a scale clamped. */
  readonly saturated?: number;
}

const isFp8 = (dtype: string): dtype is "F8_E4M3" | "F8_E5M2" => dtype === "F8_E4M3" || dtype === "F8_E5M2";

export interface ParameterOutput {
  readonly shape: readonly number[];
  readonly pieces: readonly PieceOutput[];
  readonly saturated: number;
  readonly notFinite: NotFinite;
  /** In which type they are not: the output's, or f32 before values are quantised. */
  readonly dtype: FloatDtype;
  readonly skipped: MergeOutcome["skipped"];
  readonly loss: MergeLoss | null;
}

export interface ParameterJob {
  readonly name: string;
  readonly stored: StoredParameter;
  readonly addends: readonly Addend[];
  /** Null keeps the way that the file stores each piece. */
  readonly dtype: FloatDtype | null;
  readonly rounding: Rounding;
  readonly signal?: AbortSignal;
}

/** Throws BAKE_DTYPE for a parameter that does not hold numbers an adapter can change, and what reading and merging throw. */
export async function computeParameter(job: ParameterJob): Promise<ParameterOutput> {
  const { stored, addends, signal } = job;
  const [first] = stored.pieces;
  const ownDtype = first?.piece.dtype ?? "F32";
  const quantised = stored.pieces.some(({ piece }) => piece.storage !== undefined);
  if (!quantised && !isFloatDtype(ownDtype))
    throw new Failure(
      "BAKE_DTYPE",
      `expected ${job.name} in a floating-point type, the file stores ${ownDtype}; adapters cannot be merged into it`,
      { parameter: job.name },
    );
  const common = { addends, kernels: native, measure: addends.length > 0, ...(signal ? { signal } : {}) };
  const dithered = job.dtype === null && job.rounding.kind === "stochastic" && isFp8(ownDtype);
  if (job.dtype !== null || !(quantised || dithered)) {
    const dtype = job.dtype ?? (ownDtype as FloatDtype);
    const base = await readMergeable(stored);
    const outcome = await mergeParameter({ ...common, base: { ...base, shape: stored.shape }, out: { dtype } });
    const notFinite = await notFiniteOf(base, outcome, dtype, native);
    return {
      shape: outcome.shape,
      pieces: plainPieces(stored, outcome),
      saturated: outcome.saturated,
      notFinite,
      dtype,
      skipped: outcome.skipped,
      loss: outcome.loss,
    };
  }
  const before = await readValues(stored);
  const outcome = await mergeParameter({
    ...common,
    measure: false,
    base: { data: asBytes(before), dtype: "F32", shape: stored.shape },
    out: { dtype: "F32" },
  });
  const values = new Float32Array(outcome.data.buffer, outcome.data.byteOffset, outcome.data.byteLength / 4);
  const pieces: PieceOutput[] = [];
  for (const piece of stored.pieces)
    pieces.push(await encodedPiece(pieceAt(piece, outcome.shape, stored.shape), values, before, job.rounding));
  const notFinite = await notFiniteOf({ data: asBytes(before), dtype: "F32" }, outcome, "F32", native);
  const saturated = pieces.reduce((sum, piece) => sum + (piece.saturated ?? 0), 0);
  const output = { shape: outcome.shape, pieces, saturated, notFinite, dtype: "F32" as const, skipped: outcome.skipped };
  if (addends.length === 0 || values.length !== before.length) return { ...output, loss: null };
  const request = {
    base: { data: asBytes(before), dtype: "F32" as const, shape: stored.shape },
    kernels: native,
    ...(signal ? { signal } : {}),
  };
  const left = addends.filter(({ term }) => !outcome.skipped.some((skipped) => skipped.term === term));
  return {
    ...output,
    loss: await lossOfStored(request, left, { base: before, merged: values, before, after: await decodedOutput(output) }),
  };
}

/** A pad gives a parameter another shape; such a parameter has one piece. */
function pieceAt(piece: StoredPiece, shape: readonly number[], before: readonly number[]): StoredPiece {
  if (shape.join() === before.join()) return piece;
  const rows = shape[0] ?? 1;
  const columns = elements(shape.slice(1));
  const multiple = blockPadding(piece.piece.storage);
  const up = (count: number): number => Math.ceil(count / multiple) * multiple;
  return { ...piece, piece: { ...piece.piece, length: rows }, rows, columns, storedRows: up(rows), storedColumns: up(columns) };
}

/** Rows of the outcome for each piece, as the file orders them. */
function plainPieces(stored: StoredParameter, { data, shape }: MergeOutcome): PieceOutput[] {
  if (stored.pieces.length === 1 && stored.pieces[0]?.piece.swapHalves === false) return [{ piece: stored.pieces[0], data, encoded: null }];
  const rowBytes = data.byteLength / (shape[0] ?? 1);
  return stored.pieces.map((piece) => {
    const rows = data.slice(piece.piece.start * rowBytes, (piece.piece.start + piece.rows) * rowBytes);
    if (piece.piece.swapHalves) exchangeHalves(rows);
    return { piece, data: rows, encoded: null };
  });
}

async function encodedPiece(piece: StoredPiece, values: Float32Array, base: Float32Array, rounding: Rounding): Promise<PieceOutput> {
  const { columns, rows } = piece;
  const scales = await piece.scales();
  const from = piece.piece.start * columns;
  const own = values.subarray(from, from + rows * columns);
  const sameShape = values.length === base.length;
  if (sameShape && equal(own, base.subarray(from, from + rows * columns))) {
    const data = new Uint8Array(piece.bytes);
    await piece.readInto(data);
    return { piece, data, encoded: scales === null ? null : { codes: data, scales } };
  }
  const work = own.slice();
  if (piece.piece.swapHalves) exchangeHalves(asBytes(work));
  const { dtype } = piece.piece;
  if (scales === null) {
    if (!isFp8(dtype)) throw new TypeError(`no scales of ${piece.piece.key}`);
    const { codes, saturated } = await encodeUnscaled(work, dtype, rounding);
    return { piece, data: codes, encoded: null, saturated };
  }
  // Rows that nothing changes keep the file's codes and scales, where a row's scale is its own: the rest of a fused weight is not rounded again.
  const same = sameShape && rowsStandAlone(piece) ? unchangedRows(piece, work, base.slice(from, from + rows * columns)) : [];
  const encoded = await encodePiece(piece, work, scales, rounding);
  if (same.length > 0) await keepRows(piece, encoded, scales, same);
  return { piece, data: encoded.codes, encoded };
}

function rowsStandAlone({ piece: { storage }, rows }: StoredPiece): boolean {
  return rows > 1 && (storage?.format === "scaled" || storage?.format === "mxfp8");
}

/** `values` as the file orders its rows. */
function unchangedRows({ piece, rows, columns }: StoredPiece, values: Float32Array, base: Float32Array): number[] {
  if (piece.swapHalves) exchangeHalves(asBytes(base));
  const same: number[] = [];
  for (let row = 0; row < rows; row += 1)
    if (equal(values.subarray(row * columns, (row + 1) * columns), base.subarray(row * columns, (row + 1) * columns))) same.push(row);
  return same;
}

async function keepRows(piece: StoredPiece, encoded: Encoded, before: Scales, rows: readonly number[]): Promise<void> {
  const { scale } = encoded.scales;
  if (piece.piece.storage?.format === "scaled" && scale.length !== piece.rows) return;
  const codes = new Uint8Array(piece.bytes);
  await piece.readInto(codes);
  const rowBytes = piece.bytes / piece.storedRows;
  for (const row of rows) {
    encoded.codes.set(codes.subarray(row * rowBytes, (row + 1) * rowBytes), row * rowBytes);
    if (piece.piece.storage?.format === "scaled") scale[row] = before.scale[row] ?? 1;
    else
      for (let block = 0; block < piece.storedColumns / blockColumns.mxfp8; block += 1)
        scale[tiledIndex(row, block, piece.storedColumns / blockColumns.mxfp8)] =
          before.scale[tiledIndex(row, block, piece.storedColumns / blockColumns.mxfp8)] ?? 0;
  }
}

function equal(a: Float32Array, b: Float32Array): boolean {
  return Buffer.compare(asBytes(a), asBytes(b)) === 0;
}

/** The values that a quantised output stands for, in canonical row order. */
async function decodedOutput(output: Pick<ParameterOutput, "shape" | "pieces">): Promise<Float32Array> {
  const values = new Float32Array(elements(output.shape));
  for (const { piece, data, encoded } of output.pieces) {
    const target = values.subarray(piece.piece.start * piece.columns, (piece.piece.start + piece.rows) * piece.columns);
    await decodePiece(piece, data, encoded?.scales ?? null, target);
    if (piece.piece.swapHalves) exchangeHalves(asBytes(target));
  }
  return values;
}

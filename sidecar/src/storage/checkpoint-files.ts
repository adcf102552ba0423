// The files of a checkpoint, and its parameters as they are stored. The one reader for `merge` and for the embedded host.

import { dtypeBytes, native, type TensorFile } from "@refit-sidecar/native";
import { Failure } from "../failure/index.ts";
import { elements } from "../terms/index.ts";
import type { CheckpointSource, ParameterPiece, Storage } from "./types.ts";

/** Scales of a quantised tensor, as f32 or as the codes of its block scales. */
export interface Scales {
  /** scaled: one, or one a row. nvfp4: block scales as E4M3 codes, mxfp8: as exponents, both in tiles. */
  readonly scale: Float32Array | Uint8Array;
  /** nvfp4; 1 otherwise. */
  readonly scale2: number;
  /** One factor per column; null: none. */
  readonly columnScale: Float32Array | null;
}

/** Rows of a parameter as one tensor of a file holds them. */
export interface StoredPiece {
  readonly piece: ParameterPiece;
  /** [rows, columns] of the values; columns are everything behind dimension 0. */
  readonly rows: number;
  readonly columns: number;
  /** Codes a row of the file's tensor, padding included; `columns` unless it is padded. */
  readonly storedRows: number;
  readonly storedColumns: number;
  readonly bytes: number;
  readInto(target: Uint8Array): Promise<void>;
  /** Null for a plain tensor. */
  scales(): Promise<Scales | null>;
}

/** A parameter's pristine values, as the checkpoint stores them. */
export interface StoredParameter {
  readonly shape: readonly number[];
  readonly elements: number;
  readonly pieces: readonly StoredPiece[];
  /** Of all pieces. */
  readonly bytes: number;
}

/** Every file must still have its stamp when it is opened, and again when everything was read (`checkUnchanged`): only what was catalogued is read. */
export class CheckpointFiles {
  readonly files: readonly TensorFile[];
  readonly #source: CheckpointSource;

  private constructor(source: CheckpointSource, files: readonly TensorFile[]) {
    this.#source = source;
    this.files = files;
  }

  /** Throws STORAGE_FILE_CHANGED and SafetensorsError. */
  static async open(
    source: CheckpointSource,
    openFile: (path: string) => Promise<TensorFile> = native.openTensorFile,
  ): Promise<CheckpointFiles> {
    const files: TensorFile[] = [];
    const opened = new CheckpointFiles(source, files);
    try {
      for (const expected of source.files) {
        const file = await openFile(expected.path);
        files.push(file);
        const { sizeBytes, mtimeNs, inode } = file.header.stamp;
        if (sizeBytes !== expected.sizeBytes || String(mtimeNs) !== expected.mtimeNs || String(inode) !== expected.inode) {
          throw new Failure(
            "STORAGE_FILE_CHANGED",
            "expected the checkpoint file as it was catalogued; it was replaced or changed since. Wait until it is settled and plan again.",
            { sizeBytes, expectedBytes: expected.sizeBytes },
          );
        }
      }
    } catch (error) {
      await opened.close();
      throw error;
    }
    return opened;
  }

  /** Checks a parameter against the files' own headers. Throws STORAGE_PARAMETER_UNKNOWN, STORAGE_SHAPE_MISMATCH, STORAGE_FILE_CHANGED or STORAGE_INVALID. */
  parameter(name: string, shape: readonly number[]): StoredParameter {
    const source = this.#source.parameters[name];
    if (source === undefined)
      throw new Failure("STORAGE_PARAMETER_UNKNOWN", `the checkpoint has no parameter ${name}; it belongs to another structure`, {
        parameter: name,
      });
    if (source.shape.length !== shape.length || source.shape.some((dimension, index) => dimension !== shape[index])) {
      throw new Failure(
        "STORAGE_SHAPE_MISMATCH",
        `expected ${name} of shape [${shape.join(", ")}], the checkpoint has [${source.shape.join(", ")}]; it belongs to another structure`,
        { parameter: name, expected: shape, got: source.shape },
      );
    }
    const columns = elements(shape.slice(1));
    const pieces = source.pieces.map((piece) => this.#piece(name, piece, columns));
    if (pieces.reduce((sum, { rows }) => sum + rows, 0) !== (shape[0] ?? 1))
      throw new Failure("STORAGE_INVALID", `expected the pieces of ${name} to cover its rows`, { parameter: name });
    return { shape, elements: elements(shape), pieces, bytes: pieces.reduce((sum, { bytes }) => sum + bytes, 0) };
  }

  #piece(name: string, piece: ParameterPiece, columns: number): StoredPiece {
    const file = this.files[piece.file];
    const entry = file?.header.entries.get(piece.key);
    if (file === undefined || entry === undefined || entry.dtype !== piece.dtype) {
      throw new Failure(
        "STORAGE_FILE_CHANGED",
        `expected ${piece.key} (${piece.dtype}) in the checkpoint, as it was catalogued; plan again`,
        { parameter: name, key: piece.key },
      );
    }
    const bytes = entry.end - entry.begin;
    const { storage } = piece;
    const codesPerByte = storage?.format === "nvfp4" ? 2 : 1;
    const packed = storage !== undefined && storage.format !== "scaled";
    const storedRows = packed ? (entry.shape[0] ?? 0) : piece.length;
    const storedColumns = packed ? (entry.shape[1] ?? 0) * codesPerByte : columns;
    const fits =
      storedRows >= piece.length &&
      storedColumns >= columns &&
      bytes === (storedRows * storedColumns * dtypeBytes[piece.dtype]) / codesPerByte;
    if (!fits)
      throw new Failure(
        "STORAGE_FILE_CHANGED",
        `expected ${piece.key} to hold ${piece.length} rows of ${columns} values, as it was catalogued; plan again`,
        { parameter: name, bytes },
      );
    return {
      piece,
      rows: piece.length,
      columns,
      storedRows,
      storedColumns,
      bytes,
      readInto: (target) => file.readInto(piece.key, target),
      scales: async () => (storage === undefined ? null : readScales(file, piece.key, storage, piece.length, columns)),
    };
  }

  async checkUnchanged(): Promise<void> {
    for (const file of this.files) await file.checkUnchanged();
  }

  async close(): Promise<void> {
    for (const file of this.files) await file.close();
  }
}

async function readScales(file: TensorFile, key: string, storage: Storage, rows: number, columns: number): Promise<Scales> {
  const columnScale = storage.columnScale === undefined ? null : await numbers(file, storage.columnScale, key, [columns]);
  const scale2 = storage.scale2 === undefined ? 1 : ((await numbers(file, storage.scale2, key, [1]))[0] ?? 1);
  if (storage.format === "scaled") return { scale: await numbers(file, storage.scale, key, [1, rows]), scale2, columnScale };
  return { scale: await file.read(storage.scale), scale2, columnScale };
}

/** A small tensor as f32. Throws STORAGE_INVALID unless it has one of these counts and every number is one. */
async function numbers(file: TensorFile, key: string, weight: string, counts: readonly number[]): Promise<Float32Array> {
  const entry = file.header.entries.get(key);
  const count = entry === undefined ? 0 : elements(entry.shape);
  const dtype = entry?.dtype;
  if (entry === undefined || (dtype !== "F32" && dtype !== "F16" && dtype !== "BF16" && dtype !== "F64") || !counts.includes(count)) {
    throw new Failure(
      "STORAGE_INVALID",
      `expected ${key} to hold ${counts.join(" or ")} floating-point numbers, the scales of ${weight}; found ${dtype ?? "nothing"} [${entry?.shape.join(", ") ?? ""}]. Convert the checkpoint again.`,
      { key },
    );
  }
  const values = new Float32Array(count);
  await native.convert(await file.read(key), dtype, new Uint8Array(values.buffer), "F32", count);
  const odd = values.find((value) => !Number.isFinite(value));
  if (odd !== undefined)
    throw new Failure(
      "STORAGE_INVALID",
      `expected the scales of ${weight} to be finite numbers, found ${odd} in ${key}: the weight cannot be read. Convert the checkpoint again.`,
      { key },
    );
  return values;
}

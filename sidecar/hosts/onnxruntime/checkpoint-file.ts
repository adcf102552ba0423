import { dtypeBytes, isFloatDtype, native, type FloatDtype, type TensorFile } from "@refit-sidecar/native";
import type { CheckpointSource, ParameterPiece, ParameterSource } from "../../src/catalog/types.ts";
import { hostFailure } from "./host-failure.ts";
import { product } from "./refit-map.ts";

/** A parameter's pristine values, as the checkpoint stores them. */
export interface BaseTensor {
  readonly dtype: FloatDtype;
  readonly elements: number;
  /** Scaled fp8: multiplied onto the stored values; 1 otherwise. */
  readonly scale: number;
  readonly bytes: number;
  readInto(target: Uint8Array): Promise<void>;
}

/**
 * The files of a checkpoint, opened for one refit. Only what was catalogued is read: every file must still have its stamp when it is opened, and again
 * when everything was read (`checkUnchanged`), else HOST_FILE_CHANGED.
 */
export class CheckpointFiles {
  readonly #source: CheckpointSource;
  readonly #files: readonly TensorFile[];

  private constructor(source: CheckpointSource, files: readonly TensorFile[]) {
    this.#source = source;
    this.#files = files;
  }

  static async open(source: CheckpointSource): Promise<CheckpointFiles> {
    const files: TensorFile[] = [];
    const opened = new CheckpointFiles(source, files);
    try {
      for (const expected of source.files) {
        const file = await native.openTensorFile(expected.path);
        files.push(file);
        const { sizeBytes, mtimeNs, inode } = file.header.stamp;
        if (sizeBytes !== expected.sizeBytes || String(mtimeNs) !== expected.mtimeNs || String(inode) !== expected.inode) {
          throw hostFailure("HOST_FILE_CHANGED", "expected the checkpoint file as it was catalogued; it was replaced or changed since. Wait until it is settled and plan again.", { sizeBytes, expectedBytes: expected.sizeBytes });
        }
      }
    } catch (error) {
      await opened.close();
      throw error;
    }
    return opened;
  }

  /** Checks a parameter against the files' own headers. Throws HOST_PARAMETER_UNKNOWN, HOST_FILE_CHANGED or HOST_SHAPE_MISMATCH. */
  async tensor(parameter: string, shape: readonly number[]): Promise<BaseTensor> {
    const source = this.#source.parameters[parameter];
    if (source === undefined) throw hostFailure("HOST_PARAMETER_UNKNOWN", `the checkpoint has no parameter ${parameter}; it belongs to another structure`, { parameter });
    if (source.shape.length !== shape.length || source.shape.some((dimension, index) => dimension !== shape[index])) {
      throw hostFailure("HOST_SHAPE_MISMATCH", `expected ${parameter} of shape [${shape.join(", ")}], the checkpoint has [${source.shape.join(", ")}]; it belongs to another structure`, { parameter, expected: shape, got: source.shape });
    }
    if (!isFloatDtype(source.dtype)) throw hostFailure("HOST_FILE_INVALID", `expected ${parameter} to hold floating-point values, the checkpoint stores ${source.dtype}`, { parameter, dtype: source.dtype });
    const parts = (source.pieces ?? [{ file: source.file, key: source.key, swapHalves: false }]).map((piece) => this.#part(parameter, source, piece));
    const elements = product(shape);
    const bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
    if (bytes !== elements * dtypeBytes[source.dtype]) {
      throw hostFailure("HOST_FILE_CHANGED", `expected ${parameter} to have ${elements} elements in the checkpoint, as it was catalogued; plan again`, { parameter, bytes });
    }
    return {
      dtype: source.dtype,
      elements,
      bytes,
      scale: source.scaleKey === undefined ? 1 : await this.#scalar(source.file, source.scaleKey),
      async readInto(target) {
        let offset = 0;
        for (const part of parts) {
          await part.file.readInto(part.key, target, offset);
          if (part.swapHalves) exchange(target.subarray(offset, offset + part.bytes));
          offset += part.bytes;
        }
      },
    };
  }

  /** One tensor of a file that holds a parameter, or rows of it. */
  #part(parameter: string, source: ParameterSource, piece: Pick<ParameterPiece, "file" | "key" | "swapHalves">) {
    const file = this.#files[piece.file];
    const entry = file?.header.entries.get(piece.key);
    if (file === undefined || entry === undefined || entry.dtype !== source.dtype) {
      throw hostFailure("HOST_FILE_CHANGED", `expected ${piece.key} (${source.dtype}) in the checkpoint, as it was catalogued; plan again`, { parameter, key: piece.key });
    }
    return { file, key: piece.key, bytes: entry.end - entry.begin, swapHalves: piece.swapHalves };
  }

  async #scalar(index: number, key: string): Promise<number> {
    const file = this.#files[index];
    const entry = file?.header.entries.get(key);
    if (file === undefined || entry === undefined || !isFloatDtype(entry.dtype) || product(entry.shape) !== 1) {
      throw hostFailure("HOST_FILE_INVALID", `expected ${key} to be one number, the scale of an fp8 weight`, { key });
    }
    const value = new Float32Array(1);
    await native.convert(await file.read(key), entry.dtype, new Uint8Array(value.buffer), "F32", 1);
    return value[0] ?? 1;
  }

  async checkUnchanged(): Promise<void> {
    for (const file of this.#files) await file.checkUnchanged();
  }

  async close(): Promise<void> {
    for (const file of this.#files) await file.close();
  }
}

/** Exchanges the halves of a row-major tensor's dimension 0, in place. */
function exchange(bytes: Uint8Array): void {
  const half = bytes.byteLength / 2;
  const first = bytes.slice(0, half);
  bytes.copyWithin(0, half);
  bytes.set(first, half);
}

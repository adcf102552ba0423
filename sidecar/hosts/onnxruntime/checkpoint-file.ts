import { native, isFloatDtype, type FloatDtype, type TensorFile } from "@refit-sidecar/native";
import type { CheckpointSource, ParameterSource } from "../../src/catalog/types.ts";
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

  /** Checks a parameter against the file's own header. Throws HOST_PARAMETER_UNKNOWN, HOST_FILE_CHANGED or HOST_SHAPE_MISMATCH. */
  async tensor(parameter: string, shape: readonly number[]): Promise<BaseTensor> {
    const source = this.#source.parameters[parameter];
    if (source === undefined) throw hostFailure("HOST_PARAMETER_UNKNOWN", `the checkpoint has no parameter ${parameter}; it belongs to another structure`, { parameter });
    const { file, entry } = this.#entry(parameter, source);
    if (product(entry.shape) !== product(shape) || entry.shape.some((dimension, index) => dimension !== shape[index])) {
      throw hostFailure("HOST_SHAPE_MISMATCH", `expected ${parameter} of shape [${shape.join(", ")}], the checkpoint has [${entry.shape.join(", ")}]; it belongs to another structure`, { parameter, expected: shape, got: entry.shape });
    }
    if (!isFloatDtype(entry.dtype)) throw hostFailure("HOST_FILE_INVALID", `expected ${parameter} to hold floating-point values, the checkpoint stores ${entry.dtype}`, { parameter, dtype: entry.dtype });
    const key = source.key;
    return {
      dtype: entry.dtype,
      elements: product(entry.shape),
      bytes: entry.end - entry.begin,
      scale: source.scaleKey === undefined ? 1 : await scalar(file, source.scaleKey),
      readInto: (target) => file.readInto(key, target),
    };
  }

  #entry(parameter: string, source: ParameterSource) {
    const file = this.#files[source.file];
    const entry = file?.header.entries.get(source.key);
    if (file === undefined || entry === undefined || entry.dtype !== source.dtype) {
      throw hostFailure("HOST_FILE_CHANGED", `expected ${source.key} (${source.dtype}) in the checkpoint, as it was catalogued; plan again`, { parameter, key: source.key });
    }
    return { file, entry };
  }

  async checkUnchanged(): Promise<void> {
    for (const file of this.#files) await file.checkUnchanged();
  }

  async close(): Promise<void> {
    for (const file of this.#files) await file.close();
  }
}

async function scalar(file: TensorFile, key: string): Promise<number> {
  const entry = file.header.entries.get(key);
  if (entry === undefined || entry.dtype !== "F32" || product(entry.shape) !== 1) {
    throw hostFailure("HOST_FILE_INVALID", `expected ${key} to be one F32 number, the scale of an fp8 weight`, { key });
  }
  const bytes = await file.read(key);
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getFloat32(0, true);
}

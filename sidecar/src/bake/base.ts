import { dirname, join } from "node:path";
import { isFloatDtype, native } from "@refit-sidecar/native";
import type { FloatDtype, TensorFile } from "@refit-sidecar/native";
import { familyNames } from "@refit-sidecar/protocol";
import { buildCheckpointSource, detectModel, readShardTable, structureOf } from "../catalog/index.ts";
import type { CheckpointSource, Family, ParameterPiece, ParameterSource } from "../catalog/index.ts";
import { Failure } from "../failure/index.ts";
import type { Parameters } from "../terms/index.ts";

/** A checkpoint opened for baking: all of its files, the diffusion model's parameters, and who they belong to. */
export interface BaseModel {
  readonly files: readonly TensorFile[];
  readonly source: CheckpointSource;
  readonly parameters: Parameters;
  readonly family: Family;
  readonly structure: string;
  readonly close: () => Promise<void>;
}

/** A parameter's stored values in canonical row order. */
export interface StoredParameter {
  readonly data: Uint8Array;
  readonly dtype: FloatDtype;
  /** Scaled fp8: value = stored * scale; 1 otherwise. */
  readonly scale: number;
}

/** All files of a checkpoint: the file itself, or the shards that its `.index.json` lists. */
async function filesOf(path: string): Promise<readonly string[]> {
  if (!path.endsWith(".index.json")) return [path];
  return (await readShardTable(path)).map((name) => join(dirname(path), name));
}

/** Opens a base. `family` overrides detection (small test structures defeat it). Throws SafetensorsError, CATALOG_INDEX_INVALID, BAKE_FAMILY_UNKNOWN. */
export async function openBase(path: string, family: Family | null): Promise<BaseModel> {
  const files: TensorFile[] = [];
  const close = async () => {
    for (const file of files) await file.close();
  };
  try {
    for (const name of await filesOf(path)) files.push(await native.openTensorFile(name));
    const source = buildCheckpointSource(files);
    const parameters = new Map(Object.entries(source.parameters).map(([name, { shape }]) => [name, shape]));
    return { files, source, parameters, family: family ?? familyOf(parameters), structure: structureOf(parameters), close };
  } catch (error) {
    await close();
    throw error;
  }
}

function familyOf(parameters: Parameters): Family {
  const found = detectModel(parameters);
  if (found !== null && "family" in found) return found.family;
  const what = found === null ? "no known diffusion model was found in its header" : `it is ${found.unsupported}, which is not supported`;
  throw new Failure("BAKE_FAMILY_UNKNOWN", `expected a checkpoint of one of ${familyNames.join(", ")}: ${what}; pass --family if you know better`, {});
}

/** File tensors that hold a parameter, in row order; most have one. */
export function piecesOf(place: ParameterSource): readonly ParameterPiece[] {
  return place.pieces ?? [{ file: place.file, key: place.key, start: 0, length: place.shape[0] ?? 1, swapHalves: false }];
}

/** `bytes` with the two halves of dimension 0 exchanged; its own inverse. */
export function exchangedHalves(bytes: Uint8Array): Uint8Array {
  const half = bytes.byteLength / 2;
  const out = new Uint8Array(bytes.byteLength);
  out.set(bytes.subarray(half), 0);
  out.set(bytes.subarray(0, half), half);
  return out;
}

/** Reads a parameter. Throws BAKE_DTYPE for one that does not hold floating-point numbers. */
export async function readParameter(base: BaseModel, name: string): Promise<StoredParameter> {
  const place = base.source.parameters[name];
  if (!place) throw new TypeError(`the base has no parameter ${name}`);
  if (!isFloatDtype(place.dtype)) throw new Failure("BAKE_DTYPE", `expected ${name} in a floating-point type, the file stores ${place.dtype}; adapters cannot be merged into it`, { parameter: name });
  const parts: Uint8Array[] = [];
  for (const piece of piecesOf(place)) {
    const bytes = await fileOf(base, piece.file).read(piece.key);
    parts.push(piece.swapHalves ? exchangedHalves(bytes) : bytes);
  }
  const [only] = parts;
  const data = parts.length === 1 && only ? only : new Uint8Array(Buffer.concat(parts));
  return { data, dtype: place.dtype, scale: place.scaleKey === undefined ? 1 : await readScale(base, place) };
}

async function readScale(base: BaseModel, place: ParameterSource): Promise<number> {
  const file = fileOf(base, place.file);
  const entry = file.header.entries.get(place.scaleKey ?? "");
  if (!entry || !isFloatDtype(entry.dtype)) throw new Failure("BAKE_DTYPE", `expected the scale ${place.scaleKey} as a floating-point number`, {});
  const value = new Float32Array(1);
  await native.convert(await file.read(entry.name), entry.dtype, new Uint8Array(value.buffer), "F32", 1);
  return value[0] ?? 1;
}

export function fileOf(base: BaseModel, index: number): TensorFile {
  const file = base.files[index];
  if (!file) throw new TypeError(`the base has no file ${index}`);
  return file;
}

// The parameter table of a checkpoint for an engine host: canonical name → where its tensors lie and how they are stored. Pure.

import type { Header } from "@refit-sidecar/native";
import { Failure } from "../failure/index.ts";
import {
  joinedNotes,
  plainTensors,
  type CheckpointSource,
  type ParameterPiece,
  type ParameterSource,
  type PlainTensor,
  type PlainTensors,
  type Storage,
  type StorageNotes,
} from "../storage/index.ts";
import { canonicalNames } from "../terms/index.ts";
import type { CanonicalNames, CanonicalParameter } from "../terms/index.ts";
import type { Family } from "./types.ts";

export interface StoredFile {
  readonly path: string;
  readonly header: Header;
  readonly notes: StorageNotes;
}

const sameStorage = (a: PlainTensor, b: PlainTensor): boolean =>
  a.dtype === b.dtype && a.storage?.format === b.storage?.format && a.storage?.rotation === b.storage?.rotation;

function sourceOf(parameter: CanonicalParameter, tensors: PlainTensors["tensors"], fileOf: ReadonlyMap<string, number>): ParameterSource {
  const first = tensors.get(parameter.parts[0]?.key ?? "");
  if (first === undefined) throw new TypeError(`canonicalNames gave ${parameter.name} without a tensor of the file`);
  const pieces = parameter.parts.map(({ key, start, length, swapHalves }): ParameterPiece => {
    const tensor = tensors.get(key);
    const file = fileOf.get(key);
    if (tensor === undefined || file === undefined || !sameStorage(tensor, first)) {
      throw new Failure(
        "CATALOG_MIXED_PIECES",
        `expected the pieces of ${parameter.name} in one dtype; they differ. Save the checkpoint in one dtype.`,
        { parameter: parameter.name },
      );
    }
    for (const helper of helperKeys(tensor.storage)) {
      if (fileOf.get(helper) !== file)
        throw new Failure(
          "CATALOG_SCALE_APART",
          `expected ${helper} in the shard of the weight that it scales; it is in another. Download the checkpoint as one file.`,
          { parameter: parameter.name },
        );
    }
    return {
      file,
      key,
      dtype: tensor.dtype,
      start,
      length,
      swapHalves,
      ...(tensor.storage === undefined ? {} : { storage: tensor.storage }),
    };
  });
  return { shape: parameter.shape, pieces };
}

function helperKeys(storage: Storage | undefined): readonly string[] {
  return storage === undefined ? [] : [storage.scale, storage.scale2, storage.columnScale].filter((key) => key !== undefined);
}

/** Which quantised format of the diffusion model cannot be read, and where; null when all of it can. */
export function unreadableStorage(
  { refused }: PlainTensors,
  names: CanonicalNames,
): { readonly key: string; readonly format: string } | null {
  for (const [key, format] of refused) if (key.startsWith(names.prefix)) return { key, format };
  return null;
}

export function unreadableText({ key, format }: { readonly key: string; readonly format: string }): string {
  return `expected weights that can be read (f32, f16, bf16, fp8, int8, convrot, nvfp4 or mxfp8 with their scales); this checkpoint holds ${format} (${key}). Use another file of the model.`;
}

/** `files` in order; `family` as in `canonicalNames`. Throws Failure CATALOG_UNSUPPORTED_QUANTISATION, CATALOG_MIXED_PIECES or CATALOG_SCALE_APART. */
export function buildCheckpointSource(files: readonly StoredFile[], family: Family | null = null): CheckpointSource {
  const all = new Map(files.flatMap(({ header }) => [...header.entries]));
  const fileOf = new Map(files.flatMap(({ header }, file) => [...header.entries.keys()].map((key): [string, number] => [key, file])));
  const metadata = Object.assign({}, ...files.map(({ header }) => header.metadata)) as Record<string, string>;
  const plain = plainTensors(all, metadata, joinedNotes(files.map(({ notes }) => notes)));
  const names = canonicalNames(new Map([...plain.tensors].map(([key, { shape }]) => [key, shape])), family);
  const unreadable = unreadableStorage(plain, names);
  if (unreadable !== null) throw new Failure("CATALOG_UNSUPPORTED_QUANTISATION", unreadableText(unreadable), unreadable);
  const parameters: Record<string, ParameterSource> = Object.create(null) as Record<string, ParameterSource>;
  for (const [name, parameter] of names.parameters) parameters[name] = sourceOf(parameter, plain.tensors, fileOf);
  return {
    files: files.map(({ path, header: { stamp } }) => ({
      path,
      sizeBytes: stamp.sizeBytes,
      mtimeNs: String(stamp.mtimeNs),
      inode: String(stamp.inode),
    })),
    parameters,
  };
}

import { basename } from "node:path";
import type { TensorFile } from "@refit-sidecar/native";
import { familyNames } from "@refit-sidecar/protocol";
import { checkShards, detectModel, readCheckpointSource, requireWhole, structureOf, wholeCheckpoint } from "../catalog/index.ts";
import type { CheckpointSource, Family } from "../catalog/index.ts";
import { Failure } from "../failure/index.ts";
import { CheckpointFiles } from "../storage/index.ts";
import { canonicalNames, type Parameters } from "../terms/index.ts";

/** A checkpoint opened for baking: all of its files, the diffusion model's parameters, and who they belong to. */
export interface BaseModel {
  readonly files: readonly TensorFile[];
  readonly stored: CheckpointFiles;
  readonly source: CheckpointSource;
  readonly parameters: Parameters;
  readonly family: Family;
  readonly structure: string;
  readonly close: () => Promise<void>;
}

/** Opens a base. `family` overrides detection (small test structures defeat it). Throws SafetensorsError, what `wholeCheckpoint` and `checkShards` throw, CATALOG_UNSUPPORTED_QUANTISATION, CATALOG_INCOMPLETE, BAKE_FAMILY_UNKNOWN. */
export async function openBase(path: string, family: Family | null): Promise<BaseModel> {
  const { files, table } = await wholeCheckpoint(path);
  const source = await readCheckpointSource(files, family);
  const stored = await CheckpointFiles.open(source);
  try {
    checkShards(
      stored.files.map((file) => ({ name: basename(file.path), tensors: file.header.entries })),
      table?.places ?? null,
    );
    const parameters = new Map(Object.entries(source.parameters).map(([name, { shape }]) => [name, shape]));
    const told = diffusersFamily(stored);
    const found = family ?? familyOf(parameters, told);
    // A family that is told is for structures that no detection knows, of which nothing is known; one that is recognised all the same must be all there.
    const detected = family === null ? null : detectModel(parameters, told);
    if (family === null || (detected !== null && "family" in detected && detected.family === family))
      requireWhole(found, parameters, family !== null);
    return {
      files: stored.files,
      stored,
      source,
      parameters,
      family: found,
      structure: structureOf(parameters),
      close: () => stored.close(),
    };
  } catch (error) {
    await stored.close();
    throw error;
  }
}

/** The family that names of a diffusers file tell: what they become may be fewer than a checkpoint's. */
function diffusersFamily(stored: CheckpointFiles): Family | null {
  return canonicalNames(
    new Map(stored.files.flatMap(({ header }) => [...header.entries].map(([key, { shape }]): [string, readonly number[]] => [key, shape]))),
  ).family;
}

function familyOf(parameters: Parameters, told: Family | null): Family {
  const found = detectModel(parameters, told);
  if (found !== null && "family" in found) return found.family;
  const what = found === null ? "no known diffusion model was found in its header" : `it is ${found.unsupported}, which is not supported`;
  throw new Failure(
    "BAKE_FAMILY_UNKNOWN",
    `expected a checkpoint of one of ${familyNames.join(", ")}: ${what}; pass --family if you know better`,
    {},
  );
}

export function fileOf(base: BaseModel, index: number): TensorFile {
  const file = base.files[index];
  if (!file) throw new TypeError(`the base has no file ${index}`);
  return file;
}

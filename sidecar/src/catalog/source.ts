// The parameter table of a checkpoint for an engine host: canonical name → file, key, dtype, shape. Pure.

import type { Header, TensorEntry } from "@refit-sidecar/native";
import { Failure } from "../failure/index.ts";
import { canonicalNames } from "../terms/index.ts";
import type { CanonicalParameter } from "../terms/index.ts";
import type { CheckpointSource, ParameterSource } from "./types.ts";

interface Located {
  readonly file: number;
  readonly tensor: TensorEntry;
}

function sourceOf(parameter: CanonicalParameter, located: ReadonlyMap<string, Located>): ParameterSource {
  const first = located.get(parameter.parts[0]?.key ?? "");
  if (first === undefined) throw new TypeError(`canonicalNames gave ${parameter.name} without a tensor of the file`);
  const { dtype } = first.tensor;
  const whole = parameter.parts.length === 1 && parameter.parts[0]?.swapHalves === false;
  if (whole) {
    const { file, tensor } = first;
    return { file, key: tensor.name, dtype, shape: parameter.shape, ...(parameter.scaleKey === undefined ? {} : { scaleKey: parameter.scaleKey }) };
  }
  const pieces = parameter.parts.map((part) => {
    const piece = located.get(part.key);
    if (piece === undefined || piece.tensor.dtype !== dtype) {
      throw new Failure("CATALOG_MIXED_PIECES", `expected the pieces of ${parameter.name} in one dtype; they differ. Save the checkpoint in one dtype.`, { parameter: parameter.name });
    }
    return { file: piece.file, key: part.key, start: part.start, length: part.length, swapHalves: part.swapHalves };
  });
  return { file: first.file, key: "", dtype, shape: parameter.shape, pieces };
}

/** `files` in order, each with the header that was read from it. Throws Failure CATALOG_MIXED_PIECES. */
export function buildCheckpointSource(files: readonly { readonly path: string; readonly header: Header }[]): CheckpointSource {
  const located = new Map<string, Located>();
  const shapes = new Map<string, readonly number[]>();
  files.forEach(({ header }, file) => {
    for (const [key, tensor] of header.entries) {
      located.set(key, { file, tensor });
      shapes.set(key, tensor.shape);
    }
  });
  const parameters: Record<string, ParameterSource> = Object.create(null) as Record<string, ParameterSource>;
  for (const [name, parameter] of canonicalNames(shapes).parameters) parameters[name] = sourceOf(parameter, located);
  return {
    files: files.map(({ path, header: { stamp } }) => ({ path, sizeBytes: stamp.sizeBytes, mtimeNs: String(stamp.mtimeNs), inode: String(stamp.inode) })),
    parameters,
  };
}

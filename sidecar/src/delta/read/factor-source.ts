// Where the bytes of a delta's factors come from while it is written: copied from a file, or computed.

import { dtypeBytes, isFloatDtype, type FloatDtype, type TensorFile } from "@refit-sidecar/native";
import { elements, type Delta, type FactorName, type Shape } from "../../terms/index.ts";

export interface FactorSource {
  readonly name: FactorName;
  readonly dtype: FloatDtype;
  readonly shape: Shape;
  /** Key of the adapter file, for reports. */
  readonly key: string;
  /** Called once, when the factor's turn comes: only one factor is in memory at a time. */
  readonly bytes: () => Promise<Uint8Array>;
}

/** A tensor of the file as it is, in its own dtype; `shape` may differ from the file's at equal size. */
export function copiedFactor(file: TensorFile, name: FactorName, key: string, shape: Shape): FactorSource {
  const dtype = file.header.entries.get(key)?.dtype;
  if (dtype === undefined || !isFloatDtype(dtype))
    throw new TypeError(`factor ${name}: expected a floating-point tensor at ${key}, got ${dtype ?? "none"}`);
  return { name, dtype, shape, key, bytes: () => file.read(key) };
}

export const totalBytes = (factors: readonly FactorSource[]): number =>
  factors.reduce((sum, { dtype, shape }) => sum + elements(shape) * dtypeBytes[dtype], 0);

export const sourcesOf = (factors: readonly FactorSource[]): Record<FactorName, string> =>
  Object.fromEntries(factors.map(({ name, key }) => [name, key]));

/** The factors of an existing delta, each checked against its checksum as it is read. */
export function deltaFactors(file: TensorFile, delta: Delta): FactorSource[] {
  return delta.factorNames.map((name) => ({
    ...copiedFactor(file, name, name, delta.shapeOf(name) ?? []),
    key: delta.header.sources[name] ?? name,
    bytes: async () => (await delta.factor(name)).data,
  }));
}

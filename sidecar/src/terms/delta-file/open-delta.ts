// A delta file as its reader sees it: header, and factors that are checked each time they are read.

import type { FloatDtype, TensorFile } from "@refit-sidecar/native";
import { factorNames } from "../evaluate/check-terms.ts";
import type { Factor, FactorName } from "../types.ts";
import { checksTensorName, decodeChecks, factorCrc } from "./checks.ts";
import { damaged, decodeDeltaHeader, deltaMetadataKey, type DeltaHeader } from "./delta-header.ts";

export interface Delta {
  readonly header: DeltaHeader;
  readonly factorNames: readonly FactorName[];
  /** Factors that hold a NaN or Inf: a live engine refuses the delta, `merge` goes on and says so. */
  readonly nonFinite: readonly FactorName[];
  /** Reads one factor. Throws Failure DELTA_DAMAGED when its bytes are not the ones written. */
  factor(name: FactorName): Promise<Factor>;
  /** Shape of a factor without reading it; undefined when there is none. */
  shapeOf(name: FactorName): readonly number[] | undefined;
  /** Reads everything once: for a file that was not written by this process. */
  verify(): Promise<void>;
}

const floats: readonly FloatDtype[] = ["F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2"];

/** Takes over `file`, closing it when the delta does not hold. Throws Failure DELTA_DAMAGED, DELTA_VERSION, and what reading throws. */
export async function openDelta(file: TensorFile): Promise<Delta & { close(): Promise<void> }> {
  try {
    const delta = await readDelta(file);
    return { ...delta, close: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** As `openDelta`, for a file that stays with the caller. */
export async function readDelta(file: TensorFile): Promise<Delta> {
  const { metadata, entries } = file.header;
  const header = decodeDeltaHeader(metadata);
  const names = [...entries.keys()].filter((name) => name !== checksTensorName);
  if (!entries.has(checksTensorName)) throw damaged("the checksum table is missing");
  const checks = decodeChecks(await file.read(checksTensorName), names, metadata[deltaMetadataKey] ?? "");
  for (const term of header.terms) {
    const missing = factorNames(term).find((name) => !checks.has(name));
    if (missing !== undefined) throw damaged(`the factor ${missing} of ${term.target.parameter} is missing`);
  }
  const factor = async (name: FactorName): Promise<Factor> => {
    const entry = entries.get(name);
    const dtype = floats.find((known) => known === entry?.dtype);
    if (!entry || dtype === undefined) throw damaged(`there is no floating-point factor ${name}`);
    const data = await file.read(name);
    if (factorCrc(data) !== checks.get(name)?.crc) throw damaged(`the bytes of the factor ${name} have changed since they were written`);
    return { dtype, shape: entry.shape, data };
  };
  return {
    header,
    factorNames: names,
    nonFinite: [...checks].filter(([, check]) => !check.finite).map(([name]) => name),
    factor,
    shapeOf: (name) => (name === checksTensorName ? undefined : entries.get(name)?.shape),
    verify: async () => {
      const waiting = names.values();
      const checkAll = async (): Promise<void> => {
        for (const name of waiting) await factor(name);
      };
      // A few at a time, so that reading and summing overlap; memory stays at a few factors.
      await Promise.all(Array.from({ length: 4 }, checkAll));
    },
  };
}

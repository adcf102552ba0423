// Checksums and finite flags of a delta's factors: the last tensor of the file, written when all others have been seen.

import { crc32 } from "node:zlib";
import type { FactorName } from "../types.ts";
import { damaged } from "./delta-header.ts";

/** Sorts behind every factor name (`f000000`, …) among one-byte tensors, so it is written last. */
export const checksTensorName = "~checks";

/** Per factor in code-unit order of names: CRC-32 of its bytes (u32 LE), then 1 if it holds a NaN or Inf. At the end the CRC-32 of metadata and records. */
const recordBytes = 5;

export const checksSize = (factors: number): number => factors * recordBytes + 4;

export interface FactorCheck {
  readonly crc: number;
  readonly finite: boolean;
}

export const ordered = (names: Iterable<FactorName>): FactorName[] => [...names].sort((a, b) => (a < b ? -1 : Number(a > b)));

export function encodeChecks(checks: ReadonlyMap<FactorName, FactorCheck>, metadata: string): Uint8Array {
  const bytes = new Uint8Array(checksSize(checks.size));
  const view = new DataView(bytes.buffer);
  for (const [index, name] of ordered(checks.keys()).entries()) {
    const check = checks.get(name);
    view.setUint32(index * recordBytes, check?.crc ?? 0, true);
    view.setUint8(index * recordBytes + 4, check?.finite === false ? 1 : 0);
  }
  view.setUint32(bytes.byteLength - 4, ownCrc(bytes, metadata), true);
  return bytes;
}

/** Throws Failure DELTA_DAMAGED when the table does not belong to these names and this metadata. */
export function decodeChecks(bytes: Uint8Array, names: Iterable<FactorName>, metadata: string): Map<FactorName, FactorCheck> {
  const sorted = ordered(names);
  if (bytes.byteLength !== checksSize(sorted.length))
    throw damaged(`the checksum table has ${bytes.byteLength} bytes for ${sorted.length} factors`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(bytes.byteLength - 4, true) !== ownCrc(bytes, metadata)) throw damaged("the checksum of its header does not match");
  return new Map(
    sorted.map((name, index) => [
      name,
      { crc: view.getUint32(index * recordBytes, true), finite: view.getUint8(index * recordBytes + 4) === 0 },
    ]),
  );
}

const ownCrc = (bytes: Uint8Array, metadata: string): number => crc32(bytes.subarray(0, -4), crc32(metadata));

export const factorCrc = (data: Uint8Array): number => crc32(data);

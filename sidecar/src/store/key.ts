import { createHash } from "node:crypto";

/** Raised when the meaning of an engine's files or of the refit map changes: older entries are then simply not found. */
export const storeFormatVersion = 1;

/** What an engine depends on. Never weights, never a file's name: one engine serves every checkpoint of its structure. */
export interface EngineKey {
  readonly structure: string;
  readonly precision: string;
  /** Canonical text of the profile (min/opt/max of batch, height, width, tokens), or "auto". */
  readonly profile: string;
  readonly host: string;
  /** Library that made it, major.minor: "torch 2.11". */
  readonly library: string;
  /** Compute capability or CPU instruction set: "sm90", "x86-64-avx512". */
  readonly capability: string;
  /** Driver branch, "" where there is none: "580". */
  readonly driverBranch: string;
}

/** What may differ without making an engine useless; any difference means UNKNOWN: refit in full, check, then decide. */
export interface EngineFinger {
  readonly libraryVersion: string;
  readonly driver: string;
  readonly device: string;
}

/** Name of an entry: SHA-256 over the key's fields in a fixed order and the format version, lower-case hex. */
export function entryName(key: EngineKey): string {
  const text = JSON.stringify([
    storeFormatVersion,
    key.structure,
    key.precision,
    key.profile,
    key.host,
    key.library,
    key.capability,
    key.driverBranch,
  ]);
  return createHash("sha256").update(text).digest("hex");
}

export function sameFinger(a: EngineFinger, b: EngineFinger): boolean {
  return a.libraryVersion === b.libraryVersion && a.driver === b.driver && a.device === b.device;
}

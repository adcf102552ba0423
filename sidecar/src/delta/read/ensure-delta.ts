// The cached delta of an adapter for a structure: found and verified, or made.

import { join } from "node:path";
import { mkdir, rm } from "node:fs/promises";
import { SafetensorsError, type Native, type TensorFile } from "@refit-sidecar/native";
import { fileStampOf, sameRead } from "../../files/index.ts";
import { Failure } from "../../failure/index.ts";
import { openDelta } from "../../terms/index.ts";
import type { DeltaRequest, ReadyDelta } from "../types.ts";
import { packAdapter } from "./pack-adapter.ts";
import { writeDelta } from "./write-delta.ts";

/** Raised when the same file would be packed otherwise than before: deltas of earlier versions are not found any more, and trimmed as unused. */
const packingVersion = 3;

/** Name of a delta in its folder: content hash, structure, mode, version of the packing. */
export function deltaFileName({ adapter, target, mode }: Pick<DeltaRequest, "adapter" | "target" | "mode">): string {
  return `${adapter.sha256}-${target.structure.slice(0, 16)}-${mode}-${packingVersion}.delta`;
}

/** Whether a delta of this name is one that this version finds again. */
export const isFoundAgain = (name: string): boolean => name.endsWith(`-${packingVersion}.delta`);

/**
 * Throws Failure DELTA_ADAPTER_CHANGED (the file is no longer the one that was hashed), DELTA_ADAPTER_UNREADABLE, DELTA_REDUX_NEEDS_BASE,
 * DELTA_OTHER_STRUCTURE, DELTA_DAMAGED (an exported delta), and what writing throws. A damaged delta of an earlier run is made anew.
 * `verified` holds the stamps of deltas that this process has read whole, by path: one that has not changed since is not read again.
 */
export async function ensureDelta(
  request: DeltaRequest,
  native: Native,
  signal?: AbortSignal,
  verified: Map<string, string> = new Map(),
): Promise<ReadyDelta> {
  const path = join(request.folder, deltaFileName(request));
  const cached = await cachedDelta(path, request, native, verified);
  if (cached) return cached;
  try {
    return await makeDelta(path, request, native, signal);
  } catch (error) {
    if (!(error instanceof SafetensorsError)) throw error;
    throw new Failure(
      error.code === "FILE_CHANGED" ? "DELTA_ADAPTER_CHANGED" : "DELTA_ADAPTER_UNREADABLE",
      error.message,
      { reason: error.code },
      { cause: error },
    );
  }
}

/** Null when there is none that holds. */
async function cachedDelta(path: string, request: DeltaRequest, native: Native, verified: Map<string, string>): Promise<ReadyDelta | null> {
  let file: TensorFile;
  try {
    file = await native.openTensorFile(path);
  } catch {
    // Missing is the usual case; unreadable or malformed is replaced like any damaged one.
    return null;
  }
  try {
    const delta = await openDelta(file);
    try {
      const { header } = delta;
      if (header.adapter !== request.adapter.sha256 || header.structure !== request.target.structure || header.mode !== request.mode)
        return null;
      const stamp = Object.values(file.header.stamp).join();
      if (verified.get(path) !== stamp) await delta.verify();
      verified.set(path, stamp);
      const nonFinite = delta.nonFinite.map((name) => header.sources[name] ?? name);
      return { path, sha256: request.adapter.sha256, header, nonFinite, fileBytes: file.header.stamp.sizeBytes, cached: true };
    } finally {
      await delta.close();
    }
  } catch (error) {
    if (!(error instanceof Failure || error instanceof SafetensorsError)) throw error;
    await rm(path, { force: true });
    return null;
  }
}

async function makeDelta(path: string, request: DeltaRequest, native: Native, signal: AbortSignal | undefined): Promise<ReadyDelta> {
  const file = await native.openTensorFile(request.adapter.path);
  try {
    if (request.adapter.stamp && !sameRead(fileStampOf(request.adapter.stamp), file.header.stamp)) throw changed();
    const packed = await packAdapter(file, request, native, (other) => native.openTensorFile(other));
    try {
      await mkdir(request.folder, { recursive: true, mode: 0o700 });
      const { fileBytes, nonFinite } = await writeDelta(path, packed.header, packed.factors, native, {
        durable: false,
        ...(signal ? { signal } : {}),
      });
      return { path, sha256: request.adapter.sha256, header: packed.header, nonFinite, fileBytes, cached: false };
    } finally {
      await packed.close();
    }
  } finally {
    await file.close();
  }
}

const changed = (): Failure =>
  new Failure(
    "DELTA_ADAPTER_CHANGED",
    "expected the adapter file as it was hashed, it has been replaced since; it is catalogued again and packed when it has settled",
  );

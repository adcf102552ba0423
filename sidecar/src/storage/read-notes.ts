// Reads what a quantised checkpoint's header leaves open: the descriptions beside its layers, and how much of a padded tensor is padding.

import type { Header, TensorFile } from "@refit-sidecar/native";
import { paddedTo } from "./blocks.ts";
import { layerStorage } from "./describe.ts";
import { layerDescriptions, needsNotes } from "./plain.ts";
import { noNotes, type Storage, type StorageNotes } from "./types.ts";

/** A description is a line of JSON. */
const maxDescriptionBytes = 64 * 1024;

/** Throws SafetensorsError when the file changes meanwhile. Reads a few bytes a layer; nothing of a plain checkpoint. */
export async function readStorageNotes(file: TensorFile): Promise<StorageNotes> {
  const { entries, metadata } = file.header;
  if (!needsNotes(entries, metadata)) return noNotes;
  const descriptions = new Map<string, string>();
  for (const entry of entries.values()) {
    if (!entry.name.endsWith(".comfy_quant") || entry.end - entry.begin > maxDescriptionBytes) continue;
    descriptions.set(entry.name.slice(0, -".comfy_quant".length), Buffer.from(await file.read(entry.name)).toString("utf8"));
  }
  const shapes = new Map<string, readonly number[]>();
  for (const [stem, description] of layerDescriptions(entries, metadata, { descriptions, shapes })) {
    const stored = layerStorage(entries, stem, description);
    if (!("storage" in stored) || !isPadded(stored.storage)) continue;
    const key = `${stem}.weight`;
    shapes.set(key, await ownShape(file, key, stored.storage.format, entries.get(`${stem}.bias`)?.shape[0] ?? null));
  }
  return { descriptions, shapes };
}

/** The notes of several files together: a layer and its helpers lie in one file. */
export function joinedNotes(parts: readonly StorageNotes[]): StorageNotes {
  return {
    descriptions: new Map(parts.flatMap(({ descriptions }) => [...descriptions])),
    shapes: new Map(parts.flatMap(({ shapes }) => [...shapes])),
  };
}

function isPadded(storage: Storage): storage is Storage & { readonly format: "nvfp4" | "mxfp8" } {
  return storage.format !== "scaled";
}

/**
 * A padded tensor's shape without its padding. The header does not tell it. Rows: as many as the bias has, else those before the zeros at the end.
 * Columns: those before the zeros that end every row. Padding is less than a block; a whole block of zeros is taken for weights that are zero. One
 * row answers where there is no padding, which is how real layers are: their widths are whole blocks.
 */
async function ownShape(file: TensorFile, key: string, format: "nvfp4" | "mxfp8", biasRows: number | null): Promise<readonly number[]> {
  const [rows = 0, rowBytes = 0] = file.header.entries.get(key)?.shape ?? [];
  const block = paddedTo[format];
  const codesPerByte = format === "nvfp4" ? 2 : 1;
  const tail = new Uint8Array(Math.min(rowBytes, block / codesPerByte));
  let used = 0;
  let lastRow = -1;
  const blockRows = Math.min(rows, block);
  // From the last row up, so that the rows of padding are met first.
  for (let row = rows - 1; row >= 0; row -= 1) {
    const whole = new Uint8Array(lastRow < 0 && row >= rows - blockRows ? rowBytes : 0);
    if (whole.byteLength > 0) {
      await file.readPart(key, whole, row * rowBytes);
      if (whole.some((byte) => byte !== 0)) lastRow = row;
      tail.set(whole.subarray(rowBytes - tail.byteLength));
    } else {
      await file.readPart(key, tail, row * rowBytes + rowBytes - tail.byteLength);
    }
    used = Math.max(used, usedCodes(tail, codesPerByte));
    if (used === tail.byteLength * codesPerByte && (lastRow >= 0 || biasRows !== null)) break;
  }
  const ownRows = biasRows !== null && biasRows <= rows && rows - biasRows < block ? biasRows : lastRow < 0 ? rows : lastRow + 1;
  const columns = rowBytes * codesPerByte;
  return [ownRows, used === 0 ? columns : columns - tail.byteLength * codesPerByte + used];
}

/** Codes of a row's last block up to the last one that is not zero. nvfp4 has the first of two in the high half of the byte. */
function usedCodes(tail: Uint8Array, codesPerByte: number): number {
  const last = tail.findLastIndex((byte) => byte !== 0);
  if (last < 0) return 0;
  if (codesPerByte === 1) return last + 1;
  return last * 2 + (((tail[last] ?? 0) & 15) === 0 ? 1 : 2);
}

/** Equal stamps: the same file, untouched. */
export function isSameFile(a: Header, b: Header): boolean {
  return a.stamp.sizeBytes === b.stamp.sizeBytes && a.stamp.mtimeNs === b.stamp.mtimeNs && a.stamp.inode === b.stamp.inode;
}

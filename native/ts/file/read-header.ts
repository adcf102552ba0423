import type { FileHandle } from "node:fs/promises";
import { basename } from "node:path";

import type { FileStamp, Header } from "../api.ts";
import { SafetensorsError } from "../errors.ts";
import type { ParsedHeader } from "../fallback/parse-header.ts";
import { maxHeaderBytes } from "../limits.ts";
import { identifyOther } from "./identify.ts";
import { openRegular, sameStamp, toStamp } from "./open-regular.ts";
import { readFully } from "./read-fully.ts";

/** The native or the TypeScript header check; see `parseHeader`. */
export type HeaderParser = (header: Uint8Array, dataBytes: number, file: string) => ParsedHeader | Promise<ParsedHeader>;
export type SyncHeaderParser = (header: Uint8Array, dataBytes: number, file: string) => ParsedHeader;

/** One read gets the length and, for most adapters, the whole header. */
export const firstReadBytes = 64 * 1024;

/** Opens a file and checks its header; the caller owns the handle, which is closed here on any failure. */
export async function openWithHeader(path: string, parse: HeaderParser): Promise<{ handle: FileHandle; header: Header }> {
  const { handle, stamp } = await openRegular(path);
  try {
    return { handle, header: await readHeaderFrom(handle, stamp, basename(path), parse) };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function readHeaderFrom(handle: FileHandle, stamp: FileStamp, file: string, parse: HeaderParser): Promise<Header> {
  const start = new Uint8Array(Math.min(firstReadBytes, stamp.sizeBytes));
  await readFully(handle, start, 0, file);
  try {
    const headerBytes = checkLength(start, stamp.sizeBytes, file);
    let header = start.subarray(8, 8 + headerBytes);
    if (header.byteLength < headerBytes) {
      header = new Uint8Array(headerBytes);
      header.set(start.subarray(8));
      await readFully(handle, header.subarray(start.byteLength - 8), start.byteLength, file);
    }
    const dataOffset = 8 + headerBytes;
    const parsed = await parse(header, stamp.sizeBytes - dataOffset, file);
    if (!sameStamp(stamp, toStamp(await handle.stat({ bigint: true })))) {
      throw new SafetensorsError("FILE_CHANGED", file, "the file changed while its header was read; read it again when it has settled");
    }
    return { ...parsed, dataOffset, stamp };
  } catch (error) {
    if (!(error instanceof SafetensorsError) || error.code === "FILE_CHANGED" || error.code === "TRUNCATED") throw error;
    throw identifyOther(start, file) ?? error;
  }
}

/** The u64 length N, read as BigInt because a double cannot hold it: N <= 100,000,000 and 8 + N <= file. */
export function checkLength(start: Uint8Array, fileBytes: number, file: string): number {
  if (start.byteLength < 8)
    throw new SafetensorsError(
      "HEADER_TOO_SMALL",
      file,
      fileBytes === 0
        ? "the file is empty; the download did not begin, or it is still being written: download it again"
        : `expected at least 8 bytes, the file has ${fileBytes}; it is cut short or still being written`,
    );
  const length = new DataView(start.buffer, start.byteOffset).getBigUint64(0, true);
  if (length === 0n)
    throw new SafetensorsError(
      "INVALID_HEADER_START",
      file,
      "its first bytes are zeros; space was set aside and the download has not filled it, or it ended early: download it again",
    );
  if (length > BigInt(maxHeaderBytes))
    throw new SafetensorsError(
      "HEADER_TOO_LARGE",
      file,
      `the header length ${length} is above the container's cap of ${maxHeaderBytes}; this is not a safetensors file, or it was damaged on the way: download it again`,
    );
  const headerBytes = Number(length);
  if (8 + headerBytes > fileBytes)
    throw new SafetensorsError(
      "INVALID_HEADER_LENGTH",
      file,
      `the header needs ${8 + headerBytes} bytes, the file has ${fileBytes}; it is cut short or still being written: download it again`,
    );
  return headerBytes;
}

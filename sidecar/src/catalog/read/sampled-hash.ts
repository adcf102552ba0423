// A hash that tells checkpoints apart without reading gigabytes. Not a proof of content: files that differ only between the samples have the same one.

import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";

/** Part of the hash, so that another way of sampling never gives an equal one. */
const scheme = "refit-sampled-1";
const samples = 64;
const sampleBytes = 16 * 1024;
/** The header (names, shapes, offsets) is taken whole up to this length; real ones have 0.1-1 MB. */
const maxHeadBytes = 4 * 1024 * 1024;

async function readAt(file: FileHandle, length: number, position: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await file.read(buffer, done, length - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return buffer.subarray(0, done);
}

/** Lower-case hex SHA-256 over scheme, length, header and 64 evenly spaced samples of 16 KiB, the last one at the file's end. */
export async function sampledHash(path: string): Promise<string> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    const hash = createHash("sha256").update(`${scheme}\n${size}\n`);
    const prefix = await readAt(file, 8, 0);
    const declared = prefix.length === 8 ? Number(new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true)) : 0;
    const headBytes = Math.min(8 + declared, maxHeadBytes, size);
    hash.update(await readAt(file, headBytes, 0));
    const last = Math.max(headBytes, size - sampleBytes);
    for (let index = 1; index <= samples; index += 1) {
      const position = Math.floor(headBytes + ((last - headBytes) * index) / samples);
      hash.update(await readAt(file, Math.min(sampleBytes, size - position), position));
    }
    return hash.digest("hex");
  } finally {
    await file.close();
  }
}

// Tensors of an unfinished push wait in a file, not in memory.

import { open, rm, type FileHandle } from "node:fs/promises";
import type { FrameTensor } from "@refit-sidecar/protocol";
import type { TensorSource } from "./safetensors.ts";

const chunkBytes = 4 * 2 ** 20;

export interface Spool {
  readonly append: (tensors: readonly FrameTensor[]) => Promise<void>;
  readonly sources: () => readonly TensorSource[];
  readonly bytes: () => number;
  readonly remove: () => Promise<void>;
}

async function* readRange(file: FileHandle, start: number, bytes: number): AsyncIterable<Uint8Array> {
  for (let done = 0; done < bytes;) {
    const chunk = new Uint8Array(Math.min(chunkBytes, bytes - done));
    const { bytesRead } = await file.read(chunk, 0, chunk.byteLength, start + done);
    if (bytesRead === 0) throw new Error("the spool of a push is shorter than what was written");
    done += bytesRead;
    yield chunk.subarray(0, bytesRead);
  }
}

export async function openSpool(path: string): Promise<Spool> {
  const file = await open(path, "wx+", 0o600);
  const sources: TensorSource[] = [];
  let end = 0;
  return {
    async append(tensors) {
      for (const { name, dtype, shape, data } of tensors) {
        const start = end;
        for (let done = 0; done < data.byteLength;)
          done += (await file.write(data, done, data.byteLength - done, start + done)).bytesWritten;
        end += data.byteLength;
        sources.push({ name, dtype, shape, bytes: data.byteLength, chunks: () => readRange(file, start, data.byteLength) });
      }
    },
    sources: () => sources,
    bytes: () => end,
    async remove() {
      await file.close().catch(() => undefined);
      await rm(path, { force: true }).catch(() => undefined);
    },
  };
}

/** Sources for tensors that are in memory: a push in one call needs no spool. */
export function memorySources(tensors: readonly FrameTensor[]): TensorSource[] {
  return tensors.map(({ name, dtype, shape, data }) => ({
    name,
    dtype,
    shape,
    bytes: data.byteLength,
    *chunks() {
      for (let start = 0; start < data.byteLength; start += chunkBytes) yield data.subarray(start, start + chunkBytes);
    },
  }));
}

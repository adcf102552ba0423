import type { FileHandle } from "node:fs/promises";

import { SafetensorsError } from "../errors.ts";
import { unreadable } from "./open-regular.ts";

/** libuv passes a read's length on as 32 bits; a tensor may be larger. */
const maxReadBytes = 1 << 30;

/** Fills `target` from `position`. Throws TRUNCATED when the file ends early. */
export async function readFully(handle: FileHandle, target: Uint8Array, position: number, file: string, tensor?: string): Promise<void> {
  let done = 0;
  while (done < target.byteLength) {
    const want = Math.min(maxReadBytes, target.byteLength - done);
    const { bytesRead } = await handle.read(target, done, want, position + done).catch((cause: unknown) => unreadable(file, cause));
    if (bytesRead === 0) {
      const problem = `the file ends at byte ${position + done}, expected data up to ${position + target.byteLength}; it was cut short while being read`;
      throw new SafetensorsError("TRUNCATED", file, problem, tensor === undefined ? {} : { tensor });
    }
    done += bytesRead;
  }
}

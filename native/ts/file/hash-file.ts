import { createHash } from "node:crypto";
import { basename } from "node:path";
import { Worker } from "node:worker_threads";

import { SafetensorsError } from "../errors.ts";
import { openRegular, unreadable, unreadableText } from "./open-regular.ts";

type Answer = { readonly sha256: string } | { readonly code: string };

/** Same depth below the package from `ts/file` and from `dist/file`. */
const workerUrl = new URL("../../workers/hash-file.mjs", import.meta.url);

/** `update` blocks its caller for about half a millisecond per MB; below this size that is less than starting a thread. */
const ownThreadFromBytes = 32 * 1024 * 1024;
const chunkBytes = 1024 * 1024;

/**
 * SHA-256 of a whole file, lower-case hex. Large files are hashed in a thread of their own. Aborting rejects with the signal's reason.
 * Throws UNREADABLE or NOT_A_REGULAR_FILE.
 */
export async function hashFile(path: string, signal?: AbortSignal): Promise<string> {
  signal?.throwIfAborted();
  const { handle, stamp } = await openRegular(path);
  try {
    if (stamp.sizeBytes >= ownThreadFromBytes) return await hashInThread(path, signal);
    const hash = createHash("sha256");
    const chunk = Buffer.allocUnsafe(Math.min(chunkBytes, stamp.sizeBytes + 1));
    for (;;) {
      const { bytesRead } = await handle
        .read(chunk, 0, chunk.byteLength, null)
        .catch((cause: unknown) => unreadable(basename(path), cause));
      signal?.throwIfAborted();
      if (bytesRead === 0) return hash.digest("hex");
      hash.update(chunk.subarray(0, bytesRead));
    }
  } finally {
    await handle.close();
  }
}

async function hashInThread(path: string, signal: AbortSignal | undefined): Promise<string> {
  signal?.throwIfAborted(); // it may have been aborted while the file was opened
  const worker = new Worker(workerUrl, { workerData: { path } });
  let onAbort: (() => void) | undefined;
  try {
    const answer = await new Promise<Answer>((resolve, reject) => {
      onAbort = () => reject(signal?.reason as Error);
      signal?.addEventListener("abort", onAbort, { once: true });
      worker.once("message", resolve);
      worker.once("error", reject);
    });
    if ("sha256" in answer) return answer.sha256;
    throw new SafetensorsError("UNREADABLE", basename(path), unreadableText(answer.code));
  } finally {
    if (onAbort !== undefined) signal?.removeEventListener("abort", onAbort);
    await worker.terminate();
  }
}

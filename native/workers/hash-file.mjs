// Worker thread: SHA-256 of one file. Plain JavaScript so that it runs the same from the sources and from the build.
import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";

const chunk = Buffer.allocUnsafe(1 << 20);
const hash = createHash("sha256");
let code = null;
try {
  const descriptor = openSync(workerData.path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  try {
    if (!fstatSync(descriptor).isFile()) throw Object.assign(new Error("not a regular file"), { code: "NOT_REGULAR" });
    for (let read = readSync(descriptor, chunk); read > 0; read = readSync(descriptor, chunk)) hash.update(chunk.subarray(0, read));
  } finally {
    closeSync(descriptor);
  }
} catch (error) {
  code = error.code ?? String(error);
}
parentPort.postMessage(code === null ? { sha256: hash.digest("hex") } : { code });

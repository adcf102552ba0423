// Run with --expose-gc by tools/test-leak.mjs: calls every function of the addon thousands of times and compares the process's memory before and after.
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const require = createRequire(import.meta.url);
const addon = require("node-gyp-build")(join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), "native"));
const header = Buffer.from(
  `{${Array.from({ length: 200 }, (_, i) => `"lora_unet_${i}":{"dtype":"F16","shape":[4,8],"data_offsets":[${i * 64},${i * 64 + 64}]}`).join(",")}}`,
);
const [rows, cols, rank] = [64, 96, 4];
const base = new Uint8Array(rows * cols * 2),
  out = new Uint8Array(rows * cols * 4);
const up = new Float32Array(rows * rank),
  down = new Float32Array(rank * cols);

async function round(calls) {
  for (let i = 0; i < calls; i++) {
    const token = addon.createCancel();
    await Promise.all([
      addon.mergeLowRank(base, 0, 1, out, 2, rows, cols, [up], [down], [rank], [0.5], token),
      addon.parseHeader(header, 200 * 64),
      addon.parseHeader(header, 1),
      addon.convert(base, 0, new Uint8Array(rows * cols * 4), 2, rows * cols, 1),
      addon.firstNonFinite(base, 0, rows * cols),
      addon.matmul(up, down, rows, rank, cols, new Float32Array(rows * cols), 1, false),
    ]);
    addon.parseHeaderSync(header, 200 * 64);
    addon.cancel(token);
    try {
      addon.mergeLowRank(base, 0, 1, out, 2, rows, cols * 10, [], [], [], [], null);
    } catch {
      // A refused call must free what it had taken.
    }
  }
  globalThis.gc();
  await new Promise((resolve) => setTimeout(resolve, 50));
  globalThis.gc();
  return process.memoryUsage().rss / 2 ** 20;
}

await round(1000);
const before = await round(1000);
const after = await round(4000);
console.log(`resident ${before.toFixed(1)} MB after 1,000 rounds, ${after.toFixed(1)} MB after 4,000 more`);
// A leak of one promise or one 200-tensor header a call would be above 40 MB here.
process.exitCode = after - before < 24 ? 0 : 1;

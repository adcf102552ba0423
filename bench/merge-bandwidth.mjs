#!/usr/bin/env node
// Refitting every attention and feed-forward layer of SD1.5 (160 layers, f16 base to f32 weights) with one adapter, in GB/s of bytes read and written,
// beside a plain memcpy that moves the same bytes in the same run; torch's addmm on the CPU as a second peer where REFIT_TEST_PYTHON is set.
// Merge and memcpy alternate and medians are reported. When the number lies: on a machine with other work, and where the weights fit the last-level cache.
// Options: --ranks 8,16,32 --runs N --threads N --simd avx512|avx2|scalar --fallback (also the TypeScript kernels, once).
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";

const { values } = parseArgs({
  options: {
    ranks: { type: "string", default: "8,16,32" },
    runs: { type: "string", default: "7" },
    threads: { type: "string" },
    simd: { type: "string" },
    fallback: { type: "boolean", default: false },
  },
});
if (values.threads) process.env.REFIT_THREADS = values.threads;
if (values.simd) process.env.REFIT_SIMD = values.simd;
const { native } = await import("@refit-sidecar/native");
const { loadNative } = await import("../native/dist/load.js");
const { eachBounded } = await import("../sidecar/dist/hosts/onnxruntime/each-bounded.js");

const header = JSON.parse(gunzipSync(readFileSync(new URL("../test/golden/headers/sd15.json.gz", import.meta.url))).toString("utf8"));
const shapes = Object.entries(header)
  .filter(([name]) => /transformer_blocks\.\d+\.(attn[12]\.to_(q|k|v|out\.0)|ff\.net\.(0\.proj|2))\.weight$/.test(name))
  .map(([, shape]) => shape);
const elements = shapes.reduce((sum, [rows, cols]) => sum + rows * cols, 0);

/** Finite f16 codes between 2^-8 and 2, both signs. */
function fillHalves(bytes) {
  const codes = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
  let state = 1;
  for (let i = 0; i < codes.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    codes[i] = (state & 0x8fff) | 0x2000;
  }
}

const median = (times) => [...times].sort((a, b) => a - b)[times.length >> 1];
const seconds = async (work) => {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
};

const base = new Uint8Array(elements * 2);
const weights = new Uint8Array(elements * 4);
fillHalves(base);
weights.fill(1);

function layersOf(rank) {
  let at = 0;
  return shapes.map(([rows, cols]) => {
    const layer = {
      base: base.subarray(at * 2, (at + rows * cols) * 2),
      baseDtype: "F16",
      out: weights.subarray(at * 4, (at + rows * cols) * 4),
      outDtype: "F32",
      rows,
      cols,
      factors: [{ up: new Float32Array(rows * rank).fill(0.01), down: new Float32Array(rank * cols).fill(0.02), rank, scale: 0.8 }],
    };
    at += rows * cols;
    return layer;
  });
}

/** Three layers in work at a time, in the loop that the embedded engine refits with. */
const mergeAll = (kernels, layers) => eachBounded(layers, 3, (layer) => kernels.mergeLowRank(layer));

function torchSeconds(rank) {
  const python = process.env.REFIT_TEST_PYTHON;
  if (!python) return null;
  const result = spawnSync(python, [fileURLToPath(new URL("merge-bandwidth-torch.py", import.meta.url))], {
    input: JSON.stringify({ shapes, rank, runs: 3 }),
    encoding: "utf8",
  });
  if (result.status !== 0) throw new Error(result.stderr);
  return JSON.parse(result.stdout);
}

console.error(`${shapes.length} layers, ${(elements / 1e6).toFixed(0)} M weights; kernels: ${native.detail}`);
const results = [];
for (const rank of values.ranks.split(",").map(Number)) {
  const layers = layersOf(rank);
  const factorBytes = layers.reduce((sum, { rows, cols }) => sum + 4 * rank * (rows + cols), 0);
  const bytes = elements * 6 + factorBytes;
  // A memcpy that reads and writes `bytes` in all copies half of them.
  const source = new Uint8Array(bytes / 2).fill(1);
  const target = new Uint8Array(bytes / 2).fill(2);
  const merge = [];
  const copy = [];
  const copyOnAllThreads = [];
  const restore = [];
  await mergeAll(native, layers);
  for (let run = 0; run < Number(values.runs); run++) {
    merge.push(await seconds(() => mergeAll(native, layers)));
    copy.push(await seconds(() => target.set(source)));
    copyOnAllThreads.push(await seconds(() => native.convert(source, "F8_E5M2", target, "F8_E5M2", source.length)));
    restore.push(
      await seconds(() =>
        mergeAll(
          native,
          layers.map((layer) => ({ ...layer, factors: [] })),
        ),
      ),
    );
  }
  const rate = (times, moved = bytes) => Number((moved / 1e9 / median(times)).toFixed(2));
  const memcpy = { name: "plain memcpy of the same bytes", value: rate(copy) };
  results.push({ name: `merge ${shapes.length} layers, rank ${rank}, f16 to f32`, value: rate(merge), unit: "GB/s", peer: memcpy });
  results.push({
    name: `merge ${shapes.length} layers, rank ${rank}, f16 to f32`,
    value: rate(merge),
    unit: "GB/s",
    peer: { name: "memcpy of the same bytes on all threads", value: rate(copyOnAllThreads) },
  });
  results.push({ name: `restore ${shapes.length} layers from base`, value: rate(restore, elements * 6), unit: "GB/s", peer: memcpy });
  const torch = torchSeconds(rank);
  results.push({
    name: `merge ${shapes.length} layers, rank ${rank}`,
    value: Number((median(merge) * 1000).toFixed(1)),
    unit: "ms",
    ...(torch
      ? {
          peer: {
            name: `torch ${torch.version} addmm on the CPU, ${torch.threads} threads`,
            value: Number((torch.seconds * 1000).toFixed(1)),
          },
        }
      : {}),
  });
  if (values.fallback) {
    const fallback = loadNative({ REFIT_NATIVE: "off" });
    results.push({
      name: `the same with the TypeScript fallback`,
      value: rate([await seconds(() => mergeAll(fallback, layers))]),
      unit: "GB/s",
      peer: memcpy,
    });
  }
  for (const { name, value, unit, peer } of results.slice(-4 - Number(values.fallback)))
    console.error(`${name}: ${value} ${unit}${peer ? ` (${peer.name}: ${peer.value})` : ""}`);
}
console.log(
  JSON.stringify({ bench: "merge-bandwidth", machine: `${cpus()[0]?.model.trim()} x ${cpus().length}, ${native.detail}`, results }),
);

#!/usr/bin/env node
// An adapter of about 200 MB (SDXL, kohya names, f16) → ready delta: recognised, checked for NaN, checksummed, on disk with fsync.
// The file is in the page cache (read once before). When the number lies: with a cold disk, or a data folder on a slow one, reading and fsync decide.
// Options: --mb N (size), --runs N, --in-process (no worker thread).
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import { native, writeSafetensors } from "@refit-sidecar/native";
import { DeltaService, ensureDelta } from "../sidecar/dist/src/delta/index.js";
import { keyMap } from "../sidecar/dist/src/terms/index.js";

const { values } = parseArgs({
  options: {
    mb: { type: "string", default: "200" },
    runs: { type: "string", default: "5" },
    "in-process": { type: "boolean", default: false },
  },
});
const parameters = new Map(
  Object.entries(JSON.parse(gunzipSync(readFileSync(new URL("../test/golden/headers/sdxl.json.gz", import.meta.url))).toString("utf8"))),
);
const folder = mkdtempSync(join(tmpdir(), "refit-bench-"));

/** Low-rank pairs with alpha for every attention and feed-forward layer, the rank chosen for the size. */
async function writeAdapter(path, megabytes) {
  const layers = [];
  for (const [name, target] of keyMap("sdxl", parameters)) {
    const shape = parameters.get(target.parameter);
    if (/^lora_unet_(down|mid|up).*_(to_[qkv]|to_out_0|ff_net_0_proj|ff_net_2|proj_in|proj_out)$/.test(name) && shape?.length === 2)
      layers.push({ name, shape });
  }
  const perRank = layers.reduce((sum, { shape: [o, i] }) => sum + 2 * (o + i), 0);
  const rank = Math.max(1, Math.round((megabytes * 1e6) / perRank));
  let seed = 1;
  const halves = (count) => {
    // Finite f16 bit patterns: exponents below the top one.
    const data = new Uint16Array(count);
    for (let index = 0; index < count; index += 1) data[index] = (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) & 0xbbff;
    return new Uint8Array(data.buffer);
  };
  const tensors = layers.flatMap(({ name, shape: [o, i] }) => [
    { name: `${name}.lora_up.weight`, dtype: "F16", shape: [o, rank], data: () => halves(o * rank) },
    { name: `${name}.lora_down.weight`, dtype: "F16", shape: [rank, i], data: () => halves(rank * i) },
    { name: `${name}.alpha`, dtype: "F32", shape: [], data: new Uint8Array(new Float32Array([rank / 2]).buffer) },
  ]);
  await writeSafetensors(path, tensors);
  return { layers: layers.length, rank, tensors: tensors.length };
}

const path = join(folder, "adapter.safetensors");
const made = await writeAdapter(path, Number(values.mb));
const sizeBytes = statSync(path).size;
console.error(
  `${made.tensors} tensors, ${made.layers} layers, rank ${made.rank}, ${(sizeBytes / 1e6).toFixed(0)} MB; kernels: ${native.kind} (${native.detail})`,
);

const service = new DeltaService();
const timed = async (run) => {
  const start = performance.now();
  await run();
  return performance.now() - start;
};
const hash = [];
const index = [];
const again = [];
const sha256 = await native.hashFile(path);
for (let run = 0; run < Number(values.runs); run += 1) {
  const request = {
    adapter: { path, sha256 },
    target: { family: "sdxl", structure: "0".repeat(64), parameters },
    mode: "comfyui",
    folder: join(folder, `deltas-${run}`),
  };
  const ready = () => (values["in-process"] ? ensureDelta(request, native) : service.ready(request));
  hash.push(await timed(() => native.hashFile(path)));
  index.push(await timed(ready));
  again.push(await timed(ready));
  rmSync(request.folder, { recursive: true });
  console.error(
    `run ${run + 1}: hash ${hash.at(-1).toFixed(0)} ms, delta ${index.at(-1).toFixed(0)} ms, verified again ${again.at(-1).toFixed(0)} ms`,
  );
}
await service.close();
rmSync(folder, { recursive: true, force: true });

const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
const round = (value) => Math.round(value * 10) / 10;
const result = (name, value, peer) => ({ name, value: round(value), unit: "ms", ...(peer ? { peer } : {}) });
console.log(
  JSON.stringify({
    bench: "delta-index",
    machine: `${cpus().length} x ${cpus()[0]?.model ?? "unknown"}, Node ${process.versions.node}, kernels ${native.kind}`,
    results: [
      result(`adapter of ${(sizeBytes / 1e6).toFixed(0)} MB into a ready delta, median of ${values.runs}`, median(index), {
        name: "TensorRT-Redux and NVIDIA's WebUI extension, about, from their pages",
        value: 20000,
      }),
      result("worst run", Math.max(...index)),
      result("content hash before it", median(hash)),
      result("delta of an earlier run verified whole", median(again)),
    ],
  }),
);

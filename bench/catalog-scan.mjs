#!/usr/bin/env node
// How long the catalog takes over a large collection: first scan (every header read and checked), restart (none read), and what it costs in memory.
// Files are real in all but their data: a LoRA header of 2,000 tensors in the names of three trainers over the layers of SDXL, and a sparse payload.
//   node bench/catalog-scan.mjs [--files 2000] [--tensors 2000] [--payload-mb 100] [--folder DIR (kept)]
// The numbers lie when: the headers are not in the page cache (they are here, having just been written; a cold hard disk adds a seek a file), or when
// other processes use the cores. Every measurement is a process of its own and counts from its start, Node's own start included.
import { spawnSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statfsSync,
  utimesSync,
  writeSync,
} from "node:fs";
import { cpus, tmpdir, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));
const { values } = parseArgs({
  options: {
    files: { type: "string", default: "2000" },
    tensors: { type: "string", default: "2000" },
    "payload-mb": { type: "string", default: "100" },
    folder: { type: "string" },
    child: { type: "string" },
    store: { type: "string" },
  },
});

/** Layers of the SDXL UNet that trainers adapt, with their widths. */
function layers() {
  const header = JSON.parse(gunzipSync(readFileSync(join(here, "..", "test", "golden", "headers", "sdxl.json.gz"))).toString("utf8"));
  return Object.entries(header)
    .filter(([name, shape]) => name.endsWith(".weight") && shape.length === 2 && /attn|ff|proj_|emb_layers/.test(name))
    .map(([name, shape]) => ({ stem: name.slice(0, -".weight".length), rows: shape[0], cols: shape[1] }));
}

const trainers = [
  {
    down: (stem) => `lora_unet_${stem.replaceAll(".", "_")}.lora_down.weight`,
    up: (stem) => `lora_unet_${stem.replaceAll(".", "_")}.lora_up.weight`,
    alpha: (stem) => `lora_unet_${stem.replaceAll(".", "_")}.alpha`,
  },
  {
    down: (stem) => `diffusion_model.${stem}.lora_A.weight`,
    up: (stem) => `diffusion_model.${stem}.lora_B.weight`,
    alpha: (stem) => `diffusion_model.${stem}.alpha`,
  },
  {
    down: (stem) => `lycoris_${stem.replaceAll(".", "_")}.lora_down.weight`,
    up: (stem) => `lycoris_${stem.replaceAll(".", "_")}.lora_up.weight`,
    alpha: (stem) => `lycoris_${stem.replaceAll(".", "_")}.alpha`,
  },
];

/** Header text with exactly `tensors` tensors that cover `payloadBytes`. */
function headerText(index, tensors, payloadBytes, all) {
  const { down, up, alpha } = trainers[index % trainers.length];
  const rows = [];
  const chosen = all.slice(0, Math.ceil(tensors / 3));
  const perRank = chosen.reduce((sum, layer) => sum + layer.rows + layer.cols, 0);
  const rank = Math.max(1, Math.floor(payloadBytes / 2 / perRank));
  for (const { stem, rows: out, cols } of chosen) rows.push([down(stem), [rank, cols]], [up(stem), [out, rank]], [alpha(stem), []]);
  rows.length = Math.min(rows.length, tensors);
  const header = {
    __metadata__: { ss_output_name: `style ${index}`, ss_base_model_version: "sdxl_base_v1-0", ss_network_module: "networks.lora" },
  };
  let offset = 0;
  for (const [name, shape] of rows) {
    const bytes = shape.reduce((product, dim) => product * dim, 2);
    header[name] = { dtype: "F16", shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  return { text: Buffer.from(JSON.stringify(header)), bytes: offset, tensors: rows.length };
}

function makeCollection(folder, count, tensors, payloadBytes) {
  const all = layers();
  let headerBytes = 0;
  let made = 0;
  for (let index = 0; index < count; index += 1) {
    const sub = join(folder, `style ${index % 20}`);
    mkdirSync(sub, { recursive: true });
    const path = join(sub, `LoRA ${String(index).padStart(4, "0")}.safetensors`);
    const { text, bytes, tensors: held } = headerText(index, tensors, payloadBytes, all);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    const file = openSync(path, "w");
    writeSync(file, Buffer.concat([length, text]));
    ftruncateSync(file, 8 + text.length + bytes);
    closeSync(file);
    // A collection is older than a few seconds; a younger file is watched for a while before it counts as settled.
    const at = new Date(Date.now() - 3_600_000);
    utimesSync(path, at, at);
    headerBytes += text.length;
    made = held;
  }
  return { headerBytes, tensors: made };
}

async function scanChild(folder, store, hashOne) {
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  const { createArrivals } = await import("../sidecar/dist/src/arrivals/index.js");
  const { createCatalog } = await import("../sidecar/dist/src/catalog/index.js");
  const { native } = await import("../native/dist/index.js");
  const importedMs = performance.now();
  const catalog = createCatalog({ storePath: store });
  await catalog.open();
  const arrivals = createArrivals({ folders: [{ path: folder, kind: "adapter" }] });
  arrivals.subscribe((batch) => catalog.accept(batch));
  await arrivals.start();
  await catalog.idle();
  const readyMs = performance.now();
  delay.disable();
  const entries = [...catalog.snapshot().entries.values()];
  const cpu = process.cpuUsage();
  const rssAtReady = process.memoryUsage().rss;
  let hashMs = null;
  if (hashOne) {
    const from = performance.now();
    await catalog.identity(entries[0].id);
    hashMs = performance.now() - from;
  }
  // The reading threads end after two idle seconds.
  if (!hashOne) await new Promise((resolve) => setTimeout(resolve, 3000));
  const rssIdle = process.memoryUsage().rss;
  const sdxl = entries.filter((entry) => entry.family === "sdxl" && entry.problem === null).length;
  await arrivals.close();
  await catalog.close();
  const result = {
    readyMs,
    importedMs,
    entries: entries.length,
    sdxl,
    rss: rssAtReady,
    rssIdle,
    maxRss: process.resourceUsage().maxRSS * 1024,
    hashMs,
    loopP99: delay.percentile(99) / 1e6,
    loopMax: delay.max / 1e6,
    cpuMs: (cpu.user + cpu.system) / 1000,
    native: native.detail,
  };
  console.log(JSON.stringify(result));
}

/** What a plain script does: read each header and JSON.parse it, checking nothing. */
function parseChild(folder) {
  const from = performance.now();
  let tensors = 0;
  for (const sub of readdirSync(folder)) {
    for (const name of readdirSync(join(folder, sub))) {
      const file = openSync(join(folder, sub, name), "r");
      const length = Buffer.alloc(8);
      readSync(file, length, 0, 8, 0);
      const text = Buffer.alloc(Number(length.readBigUInt64LE()));
      readSync(file, text, 0, text.length, 8);
      closeSync(file);
      tensors += Object.keys(JSON.parse(text.toString("utf8"))).length;
    }
  }
  console.log(JSON.stringify({ ms: performance.now() - from, tensors, rss: process.memoryUsage().rss }));
}

function run(...args) {
  const child = spawnSync(process.execPath, [fileURLToPath(import.meta.url), ...args], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (child.status !== 0) throw new Error(`a measuring process ended with ${child.status ?? child.signal}`);
  return JSON.parse(child.stdout.trim().split("\n").at(-1));
}

function main() {
  const count = Number(values.files);
  const base = values.folder ?? mkdtempSync(join(tmpdir(), "refit-catalog-scan-"));
  const folder = join(base, "loras");
  const store = join(base, "catalog.json");
  try {
    if (!existsSync(folder)) {
      mkdirSync(folder, { recursive: true });
      const { headerBytes, tensors } = makeCollection(folder, count, Number(values.tensors), Number(values["payload-mb"]) * 1e6);
      console.error(
        `made ${count} files with ${tensors} tensors each: ${(headerBytes / 1e6).toFixed(0)} MB of headers, ${values["payload-mb"]} MB of sparse data each`,
      );
    }
    rmSync(store, { force: true });
    const first = run("--child", "scan", "--folder", folder, "--store", store);
    const restart = run("--child", "scan-hash", "--folder", folder, "--store", store);
    const plain = run("--child", "parse", "--folder", folder);
    for (const [name, seen] of Object.entries({ first, restart })) {
      if (seen.entries !== count || seen.sdxl !== count)
        throw new Error(`${name}: expected ${count} entries of family sdxl, got ${seen.entries} entries, ${seen.sdxl} of them sdxl`);
    }
    const mb = (bytes) => Math.round(bytes / 1e5) / 10;
    const ms = (value) => Math.round(value * 10) / 10;
    const result = (name, value, unit, peer) => ({ name, value, unit, ...(peer === undefined ? {} : { peer }) });
    const { type } = statfsSync(base);
    console.error(
      `native: ${first.native}; CPU time ${ms(first.cpuMs)} ms (first), ${ms(restart.cpuMs)} ms (restart); modules loaded after ${ms(first.importedMs)} ms`,
    );
    console.log(
      JSON.stringify({
        bench: "catalog-scan",
        machine: {
          cpu: cpus()[0]?.model ?? "unknown",
          cores: cpus().length,
          memoryGb: Math.round(totalmem() / 1e9),
          node: process.version,
          platform: `${process.platform}-${process.arch}`,
          fileSystem: `0x${type.toString(16)}`,
        },
        results: [
          result(`first scan of ${count} files`, ms(first.readyMs), "ms", {
            name: "read and JSON.parse the same headers, nothing checked or kept",
            value: ms(plain.ms),
          }),
          result("restart", ms(restart.readyMs), "ms"),
          result("resident memory after the first scan", mb(first.rss), "MB"),
          result("resident memory three seconds later", mb(first.rssIdle), "MB"),
          result("largest resident memory during the first scan", mb(first.maxRss), "MB"),
          result("resident memory after a restart", mb(restart.rss), "MB"),
          result("event loop delay p99 during the first scan", ms(first.loopP99), "ms"),
          result("event loop delay max during the first scan", ms(first.loopMax), "ms"),
          result(`full hash of one file before first use (${values["payload-mb"]} MB)`, ms(restart.hashMs), "ms"),
        ],
      }),
    );
  } finally {
    if (values.folder === undefined) rmSync(base, { recursive: true, force: true });
  }
}

if (values.child === "scan") await scanChild(values.folder, values.store, false);
else if (values.child === "scan-hash") await scanChild(values.folder, values.store, true);
else if (values.child === "parse") parseChild(values.folder);
else main();

// Fuzz run of the adapter reader: adapter files with mixed kinds, wrong shapes, odd dtypes and damaged names go through the whole way from file to delta.
// usage: fuzz-adapter.mjs SECONDS SEED   Needs `npm run build`. Whatever a file says, the answer is a delta or a named Failure, and every key of it is
// accounted for once. Prints one JSON object; exits 1 on a finding.
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { SafetensorsError, native, writeSafetensors } from "@refit-sidecar/native";
import { ensureDelta, inspectAdapter, recogniseAdapter } from "../../sidecar/dist/src/delta/index.js";
import { Failure } from "../../sidecar/dist/src/failure/index.js";
import { keyMap, openDelta } from "../../sidecar/dist/src/terms/index.js";
import { randomIntegers } from "../../native/fuzz/mutate.mjs";

const seconds = Number(process.argv[2] ?? 10);
const random = randomIntegers(Number(process.argv[3] ?? 1));
const pick = (list) => list[random(list.length)];
const folder = mkdtempSync(join(tmpdir(), "refit-fuzz-adapter-"));

const suffixes = [
  ".lora_up.weight",
  ".lora_down.weight",
  ".lora_mid.weight",
  "_lora.up.weight",
  "_lora.down.weight",
  ".lora_A.weight",
  ".lora_B.weight",
  ".hada_w1_a",
  ".hada_w1_b",
  ".hada_w2_a",
  ".hada_w2_b",
  ".hada_t1",
  ".hada_t2",
  ".lokr_w1",
  ".lokr_w2",
  ".lokr_w1_a",
  ".lokr_w1_b",
  ".lokr_w2_a",
  ".lokr_w2_b",
  ".lokr_t2",
  ".a1.weight",
  ".a2.weight",
  ".b1.weight",
  ".b2.weight",
  ".oft_blocks",
  ".rescale",
  ".diff",
  ".diff_b",
  ".w_norm",
  ".b_norm",
  ".set_weight",
  ".on_input",
  ".alpha",
  ".dora_scale",
  ".reshape_weight",
  ".lora_magnitude_vector",
  ".weight",
  ".scalar",
  "",
];
/** Kinds as whole sets, so that many files are nearly right. */
const sets = [
  [0, 1],
  [0, 1, 32],
  [0, 1, 2, 32],
  [3, 4],
  [5, 6, 35],
  [7, 8, 9, 10, 32],
  [7, 8, 9, 10, 11, 12],
  [13, 14],
  [13, 16 + 1, 18],
  [15, 16, 17, 18, 32],
  [20, 21, 22, 23],
  [24, 32],
  [24, 25],
  [26, 27],
  [28, 29],
  [30],
  [31],
  [0, 1, 33, 32],
  [0, 1, 34],
];

/** A few real layers of SD1.5, small enough to write thousands of files. */
const parameters = new Map(
  Object.entries(JSON.parse(gunzipSync(readFileSync(new URL("../golden/headers/sd15.json.gz", import.meta.url))).toString("utf8"))).filter(
    ([name, shape]) => /^input_blocks\.1\./.test(name) && shape.reduce((a, b) => a * b, 1) <= 320 * 320,
  ),
);
const names = Object.fromEntries(
  ["comfyui", "extended"].map((mode) => [
    mode,
    [...keyMap("sd15", parameters, mode)].filter(([, target]) => parameters.has(target.parameter)),
  ]),
);
const dtypes = { F32: 4, F16: 2, BF16: 2, F64: 8, F8_E4M3: 1, F8_E5M2: 1, I64: 8, U8: 1, BOOL: 1 };

/** Shapes that a kind would have here, or something else one time in eight. */
function shapeFor(suffix, [rows = 1, cols = 1], rank) {
  const usual = {
    ".lora_up.weight": [rows, rank],
    ".lora_down.weight": [rank, cols],
    ".hada_w1_a": [rows, rank],
    ".hada_w1_b": [rank, cols],
    ".hada_w2_a": [rows, rank],
    ".hada_w2_b": [rank, cols],
    ".lokr_w1": [4, 4],
    ".lokr_w2": [rows / 4, cols / 4],
    "_lora.up.weight": [rows, rank],
    "_lora.down.weight": [rank, cols],
    ".lora_B.weight": [rows, rank],
    ".lora_A.weight": [rank, cols],
    ".lokr_w2_a": [rows / 4, rank],
    ".lokr_w2_b": [rank, cols / 4],
    ".rescale": [rows, 1],
    ".lora_magnitude_vector": [rows],
    ".alpha": [],
    ".dora_scale": [rows, 1],
    ".diff": [rows, cols],
    ".diff_b": [rows],
    ".oft_blocks": [4, rows / 4, rows / 4],
    ".on_input": [],
    ".reshape_weight": [2],
    ".w_norm": [rows],
    ".b_norm": [rows],
    ".set_weight": [rows, cols],
  };
  if (random(16) === 0) return Array.from({ length: random(5) }, () => pick([0, 1, 2, 3, 4, 8, 40, 320]));
  const shape = usual[suffix] ?? (random(2) === 0 ? [rows, rank] : [rank, cols]);
  return shape.every(Number.isInteger) ? shape : [1];
}

function damaged(name) {
  const at = random(name.length + 1);
  const change = pick(["", "é", "\u0000", ".", "_", "weight", "__proto__", "lora_te_", "😀"]);
  return random(2) === 0 ? name.slice(0, at) + change + name.slice(at) : name.slice(0, at) + name.slice(at + 1 + random(4));
}

function adapterTensors(mode) {
  const tensors = new Map();
  for (let module = random(4); module >= 0; module--) {
    const [name, target] = pick(names[mode]);
    const chosen = random(4) === 0 ? Array.from({ length: 1 + random(5) }, () => random(suffixes.length)) : pick(sets);
    const rank = pick([1, 2, 4]);
    const dtype = random(4) === 0 ? pick(Object.keys(dtypes)) : pick(["F16", "F32", "BF16"]);
    for (const index of chosen) {
      const key = name + suffixes[index];
      tensors.set(random(24) === 0 ? damaged(key) : key, {
        dtype: random(30) === 0 ? pick(Object.keys(dtypes)) : dtype,
        shape: shapeFor(suffixes[index], parameters.get(target.parameter), rank),
      });
    }
  }
  tensors.delete("__metadata__");
  return tensors;
}

function bytesFor(shape, dtype) {
  const bytes = new Uint8Array(shape.reduce((a, b) => a * b, dtypes[dtype]));
  const wild = random(4) === 0;
  for (let i = 0; i < bytes.length; i++) bytes[i] = wild ? random(256) : random(64);
  return bytes;
}

/** Keys that no list, or more than one, of the report names. */
function unaccounted(keys, { used, ignored, failed }) {
  const times = new Map([...keys].map((key) => [key, 0]));
  for (const key of [...used, ...ignored.map((each) => each.key), ...failed.map((each) => each.key)])
    times.set(key, (times.get(key) ?? NaN) + 1);
  return [...times].filter(([, count]) => count !== 1).map(([key]) => key);
}

/** Names, shapes and small values only, as the recogniser gets them: thousands a second. */
function recognise(tensors, metadata, mode) {
  const numbers = () =>
    Array.from({ length: random(8) === 0 ? random(5) : 1 }, () =>
      random(8) === 0 ? pick([0, -1, NaN, Infinity, 1e308, 5e-324]) : pick([1, 8, 0.5]),
    );
  const seen = new Map(
    [...tensors].map(([key, { dtype, shape }]) => [
      key,
      { key, dtype, shape, ...(/alpha|reshape_weight|on_input/.test(key) ? { numbers: numbers() } : {}) },
    ]),
  );
  return recogniseAdapter({ tensors: seen, metadata, family: "sd15", parameters, mode }).report;
}

/** The whole way: a file, its delta on disk, opened and verified. */
async function readWhole(tensors, metadata, mode) {
  const path = join(folder, "adapter.safetensors");
  await writeSafetensors(
    path,
    [...tensors].map(([name, { dtype, shape }]) => ({ name, dtype, shape, data: bytesFor(shape, dtype) })),
    metadata,
  );
  const sha256 = createHash("sha256").update(readFileSync(path)).digest("hex");
  const delta = await ensureDelta(
    { adapter: { path, sha256 }, target: { family: "sd15", structure: "5d".repeat(32), parameters }, mode, folder },
    native,
  );
  const open = await openDelta(await native.openTensorFile(delta.path));
  await open.verify();
  await open.close();
  rmSync(delta.path);
  return delta.header.report;
}

const findings = [];
const counts = { cases: 0, wholeFiles: 0, usedKeys: 0, ignoredKeys: 0, failedKeys: 0, namedFailures: 0 };
const end = Date.now() + seconds * 1000;
while (Date.now() < end && findings.length < 10) {
  const mode = pick(["comfyui", "extended"]);
  const tensors = adapterTensors(mode);
  const metadata =
    random(3) === 0
      ? {
          ss_network_dim: pick(["16", "-1", "NaN", "{}"]),
          lora_adapter_metadata: pick([
            "{}",
            "{",
            '{"transformer.lora_alpha":8}',
            "[]",
            '{"unet.r":1e999}',
            '{"unet.lora_alpha":"x","unet.alpha_pattern":{"__proto__":1}}',
          ]),
        }
      : {};
  const whole = counts.cases % 50 === 0;
  counts.cases += 1;
  try {
    inspectAdapter({ tensors, metadata }, { family: "sd15", parameters });
    if (whole) counts.wholeFiles += 1;
    const report = whole ? await readWhole(tensors, metadata, mode) : recognise(tensors, metadata, mode);
    counts.usedKeys += report.used.length;
    counts.ignoredKeys += report.ignored.length;
    counts.failedKeys += report.failed.length;
    const lost = unaccounted(tensors.keys(), report);
    if (lost.length > 0)
      findings.push({ problem: `keys not accounted for once: ${JSON.stringify(lost.slice(0, 3))}`, mode, metadata, tensors: [...tensors] });
  } catch (error) {
    if (error instanceof Failure || error instanceof SafetensorsError) counts.namedFailures += 1;
    else
      findings.push({ problem: String(error), stack: String(error.stack).split("\n").slice(0, 4), mode, metadata, tensors: [...tensors] });
  }
}
rmSync(folder, { recursive: true, force: true });
console.log(JSON.stringify({ ...counts, findings }));
process.exitCode = findings.length === 0 ? 0 : 1;

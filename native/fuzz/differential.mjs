// Fuzz run across languages: the C++ header check, the TypeScript one and (where REFIT_TEST_PYTHON is set) the reference Python package on the same
// mutated headers. usage: differential.mjs SECONDS SEED   Needs `npm run build`. Prints one JSON object; exits 1 on a disagreement.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { parseHeader } from "../dist/fallback/parse-header.js";
import { mutate, randomIntegers } from "./mutate.mjs";
import { headerSeeds } from "./seeds.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const addon = createRequire(import.meta.url)("node-gyp-build")(dirname(here));
const seconds = Number(process.argv[2] ?? 10);
const random = randomIntegers(Number(process.argv[3] ?? 1));
const python = process.env.REFIT_TEST_PYTHON;

/** Rules in which we are stricter than the reference, each with its reason in test/hostile/corpus.ts. */
const stricter = new Set([
  "INVALID_HEADER_START",
  "DUPLICATE_KEY",
  "TENSOR_INVALID_INFO",
  "UNKNOWN_DTYPE",
  "TOO_MANY_TENSORS",
  "VALIDATION_OVERFLOW",
  "INVALID_HEADER_JSON",
]);

/** "" when accepted, else the code. @param {Buffer} header @param {number} dataBytes */
function typescriptVerdict(header, dataBytes) {
  try {
    parseHeader(header, dataBytes, "fuzz");
    return "";
  } catch (error) {
    return error.code ?? `not a SafetensorsError: ${error}`;
  }
}

/** One line a file: 1 accepted, 0 refused. @param {{ header: Buffer, dataBytes: number }[]} cases */
function pythonVerdicts(cases) {
  const parts = cases.flatMap(({ header, dataBytes }) => {
    const head = Buffer.alloc(16);
    head.writeBigUInt64LE(BigInt(8 + header.length + dataBytes), 0);
    head.writeBigUInt64LE(BigInt(header.length), 8);
    return [head, header, Buffer.alloc(dataBytes)];
  });
  const result = spawnSync(python, [`${here}/reference.py`], { input: Buffer.concat(parts), maxBuffer: 1 << 26, encoding: "utf8" });
  if (result.status !== 0) throw new Error(result.stderr);
  return result.stdout
    .trim()
    .split("\n")
    .map((line) => line === "1");
}

const seeds = headerSeeds();
const disagreements = [];
const counts = { cases: 0, accepted: 0, askedPython: 0 };
const end = Date.now() + seconds * 1000;
while (Date.now() < end && disagreements.length < 20) {
  const batch = Array.from({ length: 2000 }, () => {
    const { header, dataBytes } = seeds[random(seeds.length)];
    return { header: mutate(header, random, seeds[random(seeds.length)].header), dataBytes };
  });
  const mine = batch.map(({ header, dataBytes }) => typescriptVerdict(header, dataBytes));
  const cpp = await Promise.all(batch.map(async ({ header, dataBytes }) => (await addon.parseHeader(header, dataBytes)).code ?? ""));
  const reference = python ? pythonVerdicts(batch) : null;
  batch.forEach(({ header, dataBytes }, index) => {
    counts.cases += 1;
    if (mine[index] === "") counts.accepted += 1;
    if (reference) counts.askedPython += 1;
    const wrong =
      mine[index] !== cpp[index] ||
      (reference && mine[index] === "" && !reference[index]) ||
      (reference?.[index] && mine[index] !== "" && !stricter.has(mine[index]));
    if (wrong)
      disagreements.push({
        header: header.toString("base64"),
        dataBytes,
        typescript: mine[index],
        cpp: cpp[index],
        python: reference?.[index] ?? null,
      });
    // What was accepted is a new seed: mutations walk away from the first ones.
    if (mine[index] === "" && seeds.length < 500 && header.length < 2000) seeds.push({ header, dataBytes });
  });
}
console.log(JSON.stringify({ ...counts, disagreements }));
process.exitCode = disagreements.length === 0 ? 0 : 1;

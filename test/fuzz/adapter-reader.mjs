#!/usr/bin/env node
// Fuzzes the adapter reader: bent adapters go through recogniser, delta file and evaluator, on the structures of the golden vectors.
// Allowed: a delta, or an error with a code. Then every key stands in exactly one list of the report, the delta verifies, and whatever the checks let
// through is evaluated without an error. Anything else is a finding: its seed is printed, and `--seed N --cases 1` repeats it.
// Options: --minutes N or --seconds N or --cases N, --seed N, --result FILE (JSON, written when the run ends).
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fileURLToPath } from "node:url";
import { native, writeSafetensors } from "@refit-sidecar/native";
import { ensureDelta, inspectAdapter } from "../../sidecar/dist/src/delta/index.js";
import { canonicalNames, f32Factors, mergeParameter, openDelta } from "../../sidecar/dist/src/terms/index.js";
import { bent, generator, loadAdapter } from "./adapter-mutations.mjs";

const { values } = parseArgs({
  options: {
    minutes: { type: "string" },
    seconds: { type: "string" },
    cases: { type: "string" },
    seed: { type: "string", default: "1" },
    result: { type: "string" },
  },
});
const limitMs = values.minutes ? Number(values.minutes) * 60_000 : values.seconds ? Number(values.seconds) * 1000 : Infinity;
const limitCases = values.cases ? Number(values.cases) : limitMs === Infinity ? 1000 : Infinity;
const slowMs = 10_000;
const golden = fileURLToPath(new URL("../golden/", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "refit-fuzz-"));

const families = ["sd15", "sd2", "sdxl", "sdxl-refiner", "sd3", "flux", "wan"].map((family) => {
  const base = new Map(loadAdapter(join(golden, family, "base.safetensors")).map((tensor) => [tensor.name, tensor]));
  const names = canonicalNames(new Map([...base].map(([key, { shape }]) => [key, shape])));
  const adapters = readdirSync(join(golden, family))
    .filter((file) => /adapter\d*\.safetensors$/.test(file))
    .map((file) => loadAdapter(join(golden, family, file)));
  return { family, base, names, parameters: new Map([...names.parameters].map(([name, { shape }]) => [name, shape])), adapters };
});

class Finding extends Error {}
const must = (condition, text) => {
  if (!condition) throw new Finding(text);
};

async function evaluate(delta, { base, names }, strength) {
  const factors = f32Factors((name) => delta.factor(name), native);
  const terms = Map.groupBy ? Map.groupBy(delta.header.terms, (term) => term.target.parameter) : group(delta.header.terms);
  for (const [parameter, own] of terms) {
    const { parts, shape } = names.parameters.get(parameter);
    const { data, dtype } = base.get(parts[0].key);
    const outcome = await mergeParameter({
      base: { data, dtype, shape },
      addends: own.map((term) => ({ term, strength, factors })),
      out: { dtype: "F32" },
      kernels: native,
    });
    const pads = own.some((term) => term.padTo !== undefined);
    must(pads || outcome.skipped.length === 0, `a checked term was skipped: ${outcome.skipped[0]?.reason}`);
    must(outcome.data.byteLength === outcome.shape.reduce((product, dim) => product * dim, 4), "the merged size is wrong");
  }
}

function group(terms) {
  const map = new Map();
  for (const term of terms) map.set(term.target.parameter, [...(map.get(term.target.parameter) ?? []), term]);
  return map;
}

async function one(seed, counts) {
  const random = generator(seed);
  const place = random.pick(families);
  const { tensors, metadata } = bent(random, random.pick(place.adapters));
  const path = join(scratch, "adapter.safetensors");
  await writeSafetensors(path, tensors, metadata);
  // What looks at headers alone must never throw, whatever they say.
  const shapes = new Map(tensors.map(({ name, shape }) => [name, shape]));
  canonicalNames(shapes);
  inspectAdapter(
    { tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])), metadata },
    { family: place.family, parameters: place.parameters },
  );
  const request = {
    adapter: { path, sha256: "0".repeat(64) },
    target: { family: place.family, structure: "f".repeat(64), parameters: place.parameters },
    mode: random.pick(["comfyui", "extended"]),
    folder: scratch,
  };
  let ready;
  try {
    ready = await ensureDelta(request, native);
  } catch (error) {
    must(typeof error?.code === "string" && error.code.startsWith("DELTA_"), `${error?.name}: ${error?.message}`);
    counts.refused += 1;
    return;
  }
  try {
    const { used, ignored, failed } = ready.header.report;
    const listed = [...used, ...ignored.map(({ key }) => key), ...failed.map(({ key }) => key)];
    must(
      new Set(listed).size === listed.length && listed.length === tensors.length,
      `the report lists ${listed.length} keys of ${tensors.length}`,
    );
    must(
      [...ignored, ...failed].every(({ reason }) => reason.length > 0),
      "a key without a reason",
    );
    const delta = await openDelta(await native.openTensorFile(ready.path));
    try {
      await delta.verify();
      await evaluate(delta, place, random.pick([1, -0.5, 0.8, 0]));
      counts.terms += delta.header.terms.length;
      counts.merged += delta.header.terms.length > 0 ? 1 : 0;
    } finally {
      await delta.close();
    }
  } finally {
    rmSync(ready.path, { force: true });
  }
}

const started = performance.now();
const counts = { cases: 0, refused: 0, merged: 0, terms: 0 };
const findings = [];
let seed = Number(values.seed);
let memoryAfterWarmUp = 0;
while (counts.cases < limitCases && performance.now() - started < limitMs && findings.length < 20) {
  const from = performance.now();
  try {
    await one(seed, counts);
    must(performance.now() - from < slowMs, `took ${Math.round(performance.now() - from)} ms`);
  } catch (error) {
    findings.push({ seed, finding: error instanceof Finding ? error.message : `${error?.name}: ${error?.message}` });
    console.error(`seed ${seed}: ${findings.at(-1).finding}${error instanceof Finding ? "" : `\n${error?.stack}`}`);
  }
  counts.cases += 1;
  seed += 1;
  if (counts.cases === 2000) memoryAfterWarmUp = process.memoryUsage().rss;
}
rmSync(scratch, { recursive: true, force: true });
const grownMb = memoryAfterWarmUp === 0 ? 0 : Math.round((process.memoryUsage().rss - memoryAfterWarmUp) / (1 << 20));
if (grownMb > 300) findings.push({ seed: null, finding: `memory grew by ${grownMb} MB` });
const result = {
  fuzz: "adapter-reader",
  firstSeed: Number(values.seed),
  seconds: Math.round((performance.now() - started) / 1000),
  kernels: `${native.kind} (${native.detail})`,
  node: process.versions.node,
  ...counts,
  memoryGrownMb: grownMb,
  findings,
};
if (values.result) writeFileSync(values.result, `${JSON.stringify(result, null, 2)}\n`);
console.log(JSON.stringify(result));
process.exitCode = findings.length > 0 ? 1 : 0;

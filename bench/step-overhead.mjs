#!/usr/bin/env node
// What refittable weights cost a step: every weight as a graph input against the same graph with fixed initialisers, on ONNX Runtime's CPU provider.
// Paired: both sessions live in one process and take turns, so that a busy machine slows both; the figure is the median of the pairs' ratios.
//   npm run bench -- step-overhead [--graph sd15|demo|…] [--pairs 10] [--batch 2] [--size 32] [--tokens 77] [--threads 0]
// Needs the tests' Python (onnx) to write the fixed graph. The figure lies when the machine swaps: sd15 needs 8 GB of free memory.
import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { cpus, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { testPython } from "../tools/python-env.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { InferenceSession, Tensor } = createRequire(join(root, "sidecar/package.json"))("onnxruntime-node");
const { values } = parseArgs({
  options: Object.fromEntries(
    Object.entries({ graph: "sd15", pairs: "10", batch: "2", size: "32", tokens: "77", threads: "0" }).map(([name, fallback]) => [
      name,
      { type: "string", default: fallback },
    ]),
  ),
});
const [pairs, batch, size, tokens, threads] = ["pairs", "batch", "size", "tokens", "threads"].map((name) => Number(values[name]));
const folder = join(root, "sidecar/graphs", values.graph);
const scratch = mkdtempSync(join(tmpdir(), "refit-bench-"));

const product = (shape) => shape.reduce((total, dimension) => total * dimension, 1);
const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
const random = (shape) => Float32Array.from({ length: product(shape) }, () => Math.random() * 2 - 1);

async function timed(action) {
  const started = performance.now();
  const value = await action();
  return { ms: performance.now() - started, value };
}

try {
  execFileSync(testPython(root), [join(root, "bench/step-overhead.py"), "--graph", folder, "--out", scratch], { stdio: ["ignore", 2, 2] });
  const table = JSON.parse(readFileSync(join(folder, "graph.json"), "utf8"));
  const sizes = { batch, height: size, width: size, tokens };
  const inputs = Object.fromEntries(
    table.inputs.map(({ name, shape }) => {
      const concrete = shape.map((dimension) => (typeof dimension === "string" ? sizes[dimension] : dimension));
      return [name, new Tensor("float32", random(concrete), concrete)];
    }),
  );
  const weightFile = openSync(join(scratch, "weights.bin"), "r");
  const weights = {};
  for (const { weight, shape } of table.refitMap) {
    // A buffer of its own per weight, as the host holds them.
    const data = new Float32Array(product(shape));
    if (readSync(weightFile, data) !== data.byteLength) throw new Error(`expected ${data.byteLength} bytes of ${weight}, the file ended`);
    weights[weight] = new Tensor("float32", data, shape);
  }
  closeSync(weightFile);
  const options = { logSeverityLevel: 3, ...(threads > 0 ? { intraOpNumThreads: threads } : {}) };
  const fixedLoad = await timed(() => InferenceSession.create(join(scratch, "fixed.onnx"), options));
  const refittableLoad = await timed(() => InferenceSession.create(join(folder, table.variants.fp32), options));
  const fixed = () => fixedLoad.value.run(inputs);
  const refittable = () => refittableLoad.value.run({ ...weights, ...inputs });

  const [first, second] = [(await fixed()).out_sample.data, (await refittable()).out_sample.data];
  const largest = first.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const difference = first.reduce((most, value, index) => Math.max(most, Math.abs(value - second[index])), 0) / largest;
  if (!(difference < 1e-3)) throw new Error(`expected both graphs to compute the same step, they differ by ${difference}`);

  const rows = [];
  for (let pair = 0; pair < pairs; pair += 1) {
    // Who goes first alternates: the second of a pair finds a warmer machine.
    const order = pair % 2 === 0 ? [fixed, refittable] : [refittable, fixed];
    const times = [(await timed(order[0])).ms, (await timed(order[1])).ms];
    const [fixedMs, refittableMs] = pair % 2 === 0 ? times : times.toReversed();
    rows.push({ fixedMs, refittableMs, ratio: refittableMs / fixedMs });
    console.error(`pair ${pair + 1}: fixed ${fixedMs.toFixed(1)} ms, refittable ${refittableMs.toFixed(1)} ms`);
  }
  const figure = (name, value, unit, peer) => ({
    name,
    value: Number(value.toPrecision(4)),
    unit,
    ...(peer ? { peer: { name: peer[0], value: Number(peer[1].toPrecision(4)) } } : {}),
  });
  console.log(
    JSON.stringify({
      bench: "step-overhead",
      machine: `${cpus()[0]?.model.trim()}, ${cpus().length} threads, ${process.platform}-${process.arch}, node ${process.version}`,
      results: [
        figure("step, every weight an input", median(rows.map(({ refittableMs }) => refittableMs)), "ms", [
          "fixed initialisers",
          median(rows.map(({ fixedMs }) => fixedMs)),
        ]),
        figure("step time ratio (median of pairs)", median(rows.map(({ ratio }) => ratio)), "x", ["target", 1.08]),
        figure("session load", refittableLoad.ms, "ms", ["fixed initialisers", fixedLoad.ms]),
        figure("largest relative difference of outputs", difference, ""),
      ],
    }),
  );
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

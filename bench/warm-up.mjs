#!/usr/bin/env node
// What the warm-up is for: the first step of a stack that was never used against a steady step, with the warm-up and (the peer, in turns of the same run) without it; the same
// after a restart, with the number of engine builds; and the steps' 95th percentile while background work runs against none (in turns).
//   node bench/warm-up.mjs [--rounds 3] [--steps 150]
// The numbers lie when other processes use the cores: see `load` in the result. Some machines (virtual ones that track idle memory above all) make memory slow that was not touched for a second:
// `rested` tells what the same engine's step costs after such a rest, without a refit and long after its first.
import { closeSync, copyFileSync, fstatSync, mkdirSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { demo, idOf, machine, makePlace, pause, prepare, quantile, serve, step } from "./support/serve.mjs";

const { values } = parseArgs({ options: { rounds: { type: "string", default: "3" }, steps: { type: "string", default: "150" } } });
const [rounds, steps] = [Number(values.rounds), Number(values.steps)];
const names = ["only-sevens", "small", "thick-strokes"];
// A picture's size on a UI, so that a step is work.
const size = { side: 32, batch: 2 };
const restMs = 1000;
const timed = async (work) => {
  const began = performance.now();
  await work();
  return performance.now() - began;
};
const settled = async ({ client }) => {
  for (;;) {
    const { result } = await client.call("jobs.list", {});
    if (result.jobs.every(({ state }) => state !== "running" && state !== "queued")) return;
    await pause(50);
  }
};
const useOnce = async (client, checkpoint, stack) => {
  const { lease } = await prepare(client, checkpoint, stack);
  const ms = await timed(() => step(client, lease, size));
  await client.call("engine.release", { lease });
  return ms;
};

/** First step of a never-used stack and the median of steady ones, on a sidecar that was just started. */
async function firstStep(place, flags) {
  const sidecar = await serve(place, flags);
  const { client } = sidecar;
  const checkpoint = await idOf(client, "checkpoint", "demo.safetensors");
  const ids = await Promise.all(names.map((name) => idOf(client, "adapter", `${name}.safetensors`)));
  await settled(sidecar);
  await pause(500);
  await settled(sidecar);
  const stack = ids.map((adapter) => ({ adapter, strength: Math.random() }));
  const prepared = await prepare(client, checkpoint, stack);
  const first = await timed(() => step(client, prepared.lease, size));
  const steady = [];
  for (let count = 0; count < 20; count += 1) steady.push(await timed(() => step(client, prepared.lease, size)));
  const rested = [];
  for (let count = 0; count < 3; count += 1) {
    await pause(restMs);
    rested.push(await timed(() => step(client, prepared.lease, size)));
  }
  await client.call("engine.release", { lease: prepared.lease });
  const { result } = await client.call("jobs.list", {});
  await sidecar.close();
  return {
    first,
    steady: quantile(steady, 0.5),
    rested: quantile(rested, 0.5),
    builds: result.jobs.filter(({ kind }) => kind === "graph" || kind === "build").length,
  };
}

const warm = [],
  cold = [],
  restarted = [];
for (let round = 0; round < rounds; round += 1) {
  const place = makePlace();
  const before = await serve(place);
  // A computer on which the UI was used before: that is what the warm-up knows about.
  await useOnce(before.client, await idOf(before.client, "checkpoint", "demo.safetensors"), [
    { adapter: await idOf(before.client, "adapter", "small.safetensors"), strength: 1 },
  ]);
  await before.close();
  warm.push(await firstStep(place, []));
  restarted.push(await firstStep(place, []));
  cold.push(await firstStep(place, ["--warm", "off"]));
  place.remove();
  for (const [what, rows] of [
    ["warm", warm],
    ["restarted", restarted],
    ["warm-up off", cold],
  ])
    console.log(
      `${what}: first step ${rows.at(-1).first.toFixed(1)} ms, steady ${rows.at(-1).steady.toFixed(1)} ms, after a rest ${rows.at(-1).rested.toFixed(1)} ms`,
    );
}
const ratio = (rows, what = "first") =>
  Number(
    quantile(
      rows.map((row) => row[what] / row.steady),
      0.5,
    ).toFixed(2),
  );

// Steps beside background work: packing adapters that arrive all the time.
const place = makePlace();
const sidecar = await serve(place);
const { client, heard } = sidecar;
const checkpoint = await idOf(client, "checkpoint", "demo.safetensors");
const { lease } = await prepare(client, checkpoint, []);
for (let count = 0; count < 20; count += 1) await step(client, lease, size);
mkdirSync(join(place.folder, "more"));
const [alone, beside] = [[], []];
let arrived = 0;
for (let block = 0; block < 10; block += 1) {
  const busy = block % 2 === 1;
  if (busy) {
    // Other bytes each time, so that each has to be packed.
    for (let count = 0; count < 12; count += 1) {
      const name = names[arrived % names.length];
      copyFileSync(join(demo, "loras", `${name}.safetensors`), join(place.folder, "more", `arrived-${(arrived += 1)}.safetensors`));
      salt(join(place.folder, "more", `arrived-${arrived}.safetensors`), arrived);
      place.put("loras", `arrived-${arrived}.safetensors`, join(place.folder, "more", `arrived-${arrived}.safetensors`));
    }
    await pause(700);
  }
  for (let count = 0; count < steps / 5; count += 1) (busy ? beside : alone).push(await timed(() => step(client, lease, size)));
  if (busy) await settled(sidecar);
}
const packed = heard.filter(({ event }) => event.type === "delta.ready").length;
await client.call("engine.release", { lease });
await sidecar.close();
place.remove();

const p95 = { alone: quantile(alone, 0.95), beside: quantile(beside, 0.95) };
const results = [
  {
    name: "first step of a never-used stack over a steady step, after the warm-up, median",
    value: ratio(warm),
    unit: "ratio",
    rested: ratio([...warm, ...restarted], "rested"),
    peer: { name: "warm-up off", value: ratio(cold) },
  },
  {
    name: "the same after a restart",
    value: ratio(restarted),
    unit: "ratio",
    builds: restarted.reduce((sum, { builds }) => sum + builds, 0),
    peer: { name: "warm-up off", value: ratio(cold) },
  },
  {
    name: "p95 of steps while adapters are packed over p95 without",
    value: Number((p95.beside / p95.alone).toFixed(2)),
    unit: "ratio",
    alone_ms: Number(p95.alone.toFixed(1)),
    beside_ms: Number(p95.beside.toFixed(1)),
    deltas: packed,
  },
];
console.log(JSON.stringify({ bench: "warm-up", machine: machine(), rounds, results }));

/** Changes the last bytes: another adapter for everybody who looks. */
function salt(path, value) {
  const file = openSync(path, "r+");
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  writeSync(file, bytes, 0, 2, fstatSync(file).size - 2);
  closeSync(file);
}

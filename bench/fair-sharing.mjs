#!/usr/bin/env node
// What sharing costs: 2 and 8 runs with different stacks on one engine at once, against the same runs one after another in the same process (rounds alternate); and what
// taking turns by picture (A, B, A, B with two stacks, two checkpoints) costs in refits and engines.
//   node bench/fair-sharing.mjs [--steps 150] [--rounds 3] [--turn MS]
// The numbers lie when other processes use the cores: see `load` in the result.
import { parseArgs } from "node:util";
import { idOf, machine, makePlace, otherCheckpoint, prepare, quantile, serve, step } from "./support/serve.mjs";

const { values } = parseArgs({
  options: { steps: { type: "string", default: "150" }, rounds: { type: "string", default: "3" }, turn: { type: "string" } },
});
const [steps, rounds] = [Number(values.steps), Number(values.rounds)];
const place = makePlace();
place.put("checkpoints", "other.safetensors", otherCheckpoint(place.folder));
const sidecar = await serve(place, values.turn === undefined ? [] : ["--turn", values.turn]);
const { client, heard } = sidecar;
const refits = () => heard.filter(({ event }) => event.type === "refit.committed").length;

const checkpoint = await idOf(client, "checkpoint", "demo.safetensors");
const adapter = await idOf(client, "adapter", "thick-strokes.safetensors");
const stack = (index) => [{ adapter, strength: 0.2 + 0.1 * index }];

/** A run of `steps` steps; the longest time that one of them took. */
async function run(session, index) {
  const { lease } = await prepare(session, checkpoint, stack(index));
  let longest = 0;
  for (let count = 0; count < steps; count += 1) {
    const began = performance.now();
    await step(session, lease, { seed: index });
    longest = Math.max(longest, performance.now() - began);
  }
  await session.call("engine.release", { lease });
  return longest;
}

const results = [];
for (const runs of [2, 8]) {
  const sessions = await Promise.all(Array.from({ length: runs }, () => sidecar.open()));
  await run(sessions[0], 0);
  const ratios = [],
    waits = [],
    counts = [];
  for (let round = 0; round < rounds; round += 1) {
    let began = performance.now();
    for (const [index, session] of sessions.entries()) await run(session, index);
    const sequential = performance.now() - began;
    const before = refits();
    began = performance.now();
    const longest = await Promise.all(sessions.map((session, index) => run(session, index)));
    const shared = performance.now() - began;
    ratios.push(sequential / shared);
    waits.push(Math.max(...longest));
    counts.push(refits() - before);
    console.log(
      `${runs} runs: one after another ${Math.round(sequential)} ms, at once ${Math.round(shared)} ms with ${counts.at(-1)} refits, longest wait of a step ${Math.round(waits.at(-1))} ms`,
    );
  }
  await Promise.all(sessions.map((session) => session.close()));
  results.push({
    name: `throughput of ${runs} runs at once, one after another = 1, median`,
    value: Number(quantile(ratios, 0.5).toFixed(2)),
    unit: "ratio",
    refits: quantile(counts, 0.5),
  });
  results.push({ name: `longest wait of one step among ${runs} runs`, value: Math.round(Math.max(...waits)), unit: "ms" });
}

// Pictures in turns.
const other = await idOf(client, "checkpoint", "other.safetensors");
for (const [what, pair] of [
  [
    "stacks",
    [
      [checkpoint, stack(1)],
      [checkpoint, stack(2)],
    ],
  ],
  [
    "checkpoints",
    [
      [checkpoint, []],
      [other, []],
    ],
  ],
]) {
  await prepare(client, ...pair[1]).then(({ lease }) => step(client, lease).then(() => client.call("engine.release", { lease })));
  const before = refits();
  for (const wanted of pair) {
    const { lease } = await prepare(client, ...wanted);
    await step(client, lease);
    await client.call("engine.release", { lease });
  }
  const { result: status } = await client.call("status", {});
  results.push({ name: `A then B of two ${what}: refits`, value: refits() - before, unit: "refits", engines: status.engines.length });
}
await sidecar.close();
place.remove();
console.log(JSON.stringify({ bench: "fair-sharing", machine: machine(), steps, rounds, results }));

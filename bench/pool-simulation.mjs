// A pool of 1,000 GPUs and 10,000 LoRAs with a Zipf demand: what placement costs and saves. Simulated time, measured costs, the sidecar's own rule (`placeRun`).
//   npm run bench -- pool-simulation [--devices 1000] [--loras 10000] [--seconds 20] [--warm 10] [--loads 0.7,0.9] [--out FILE]
//   npm run bench -- pool-simulation --from FILE --plots FOLDER      draws a result again
// Pictures arrive at random (Poisson) and run as one piece on one device, in order of arrival except that a device keeps its stack up to the end of its turn.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { placeRun } from "../sidecar/dist/src/plan/index.js";
import { bars } from "../tools/generate/bars.mjs";
import { machine, quantile } from "./support/serve.mjs";

const { values } = parseArgs({
  options: {
    devices: { type: "string", default: "1000" },
    loras: { type: "string", default: "10000" },
    structures: { type: "string", default: "8" },
    engines: { type: "string", default: "2" },
    seconds: { type: "string", default: "20" },
    warm: { type: "string", default: "10" },
    loads: { type: "string", default: "0.7,0.9" },
    zipf: { type: "string", default: "1" },
    out: { type: "string" },
    from: { type: "string" },
    plots: { type: "string" },
  },
});

/** Measured on H200 with SDXL (docs/evidence): ms. A device's host keeps 96 adapters of 85 MB in 8 GiB; one that it does not have costs the first refit again. */
const costs = { stepMs: 43, steps: 20, refitKnownMs: 11, refitFirstMs: 200, loadMs: [400, 700], adaptersKept: 96, turnMs: 6000 };
const engineBytes = 5.1e9;

/** Numbers in [0, 1), the same in every run (mulberry32). */
function randoms(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Draws ranks 0.. with probability 1 / (rank + 1)^exponent. */
function zipf(count, exponent, random) {
  const sums = new Float64Array(count);
  for (let rank = 0, sum = 0; rank < count; rank += 1) sums[rank] = sum += 1 / (rank + 1) ** exponent;
  return () => {
    const wanted = random() * sums[count - 1];
    let [low, high] = [0, count - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sums[middle] < wanted) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

/** Events in order of time: a binary heap of [ms, what]. */
function agenda() {
  const heap = [];
  const swap = (a, b) => ([heap[a], heap[b]] = [heap[b], heap[a]]);
  return {
    put(ms, what) {
      let at = heap.push([ms, what]) - 1;
      for (let up; at > 0 && heap[at][0] < heap[(up = (at - 1) >> 1)][0]; at = up) swap(at, up);
    },
    take() {
      const [first] = heap;
      const last = heap.pop();
      if (heap.length > 0) {
        heap[0] = last;
        for (let at = 0; ;) {
          let least = at;
          for (const next of [2 * at + 1, 2 * at + 2]) if (next < heap.length && heap[next][0] < heap[least][0]) least = next;
          if (least === at) break;
          swap(at, least);
          at = least;
        }
      }
      return first;
    },
  };
}

/** Policy: which device a run goes to, and one that should get the structure too. */
const policies = {
  random: ({ count, random }) => ({ device: Math.floor(random() * count), spreadTo: null }),
  "least loaded": ({ looks }) => ({ device: looks.reduce((least, look) => (look.runs < least.runs ? look : least)).name, spreadTo: null }),
  structure: ({ looks, state }) => placeRun(looks, state, { by: "load", engineBytes }),
  "structure and stack": ({ looks, state }) => placeRun(looks, state, { by: "affinity", engineBytes }),
};

function simulate(policy, load, given) {
  const { devices: count, loras, structures, engines: slots, seconds, warm, exponent } = given;
  const random = randoms(7);
  const drawn = zipf(loras, exponent, random);
  const pictureMs = costs.steps * costs.stepMs;
  const perMs = (count / pictureMs) * load;
  const [warmMs, endMs] = [warm * 1000, (warm + seconds) * 1000];
  const events = agenda();
  let now = 0;

  const looks = Array.from({ length: structures }, () =>
    Array.from({ length: count }, (_, name) => ({
      name,
      drained: null,
      runs: 0,
      freeBytes: slots * engineBytes,
      engines: 0,
      engine: null,
    })),
  );
  const devices = Array.from({ length: count }, (_, name) => ({
    name,
    queue: [],
    running: null,
    engines: new Map(),
    known: new Map(),
    last: null,
    turnEnds: 0,
  }));
  const each = (device, change) => {
    for (const own of looks) change(own[device.name]);
  };

  function makeEngine(device, structure) {
    while (device.engines.size >= slots) {
      // The one that has rested longest, as the sidecar frees it; one that runs wait for stays if there is another.
      const [oldest] = [...device.engines].toSorted(([, a], [, b]) => a.waiting.size - b.waiting.size || a.usedMs - b.usedMs);
      device.engines.delete(oldest[0]);
      looks[oldest[0]][device.name].engine = null;
      each(device, (look) => ((look.engines -= 1), (look.freeBytes += engineBytes)));
    }
    const engine = {
      usedMs: now,
      present: null,
      waiting: new Map(),
      get restingMs() {
        return now - engine.usedMs;
      },
      states: { has: (state) => state === engine.present || engine.waiting.has(state) },
    };
    device.engines.set(structure, engine);
    looks[structure][device.name].engine = engine;
    each(device, (look) => ((look.engines += 1), (look.freeBytes -= engineBytes)));
    return engine;
  }

  const total = { runs: 0, refits: 0, firsts: 0, loads: 0, changeMs: 0, placed: 0, waits: [], placeMs: [] };
  const isCounted = () => now >= warmMs && now < endMs;
  const loadMs = () => costs.loadMs[0] + random() * (costs.loadMs[1] - costs.loadMs[0]);
  const waitFor = (engine, state, runs) => {
    const left = (engine.waiting.get(state) ?? 0) + runs;
    if (left > 0) engine.waiting.set(state, left);
    else engine.waiting.delete(state);
  };

  function begin(device) {
    if (device.running !== null || device.queue.length === 0) return;
    const same = now < device.turnEnds ? device.queue.findIndex((run) => run.state === device.last) : -1;
    const [run] = device.queue.splice(Math.max(0, same), 1);
    device.running = run;
    let engine = device.engines.get(run.structure);
    let changeMs = 0;
    if (engine === undefined || !engine.loaded) {
      engine ??= makeEngine(device, run.structure);
      engine.loaded = true;
      changeMs += loadMs();
      if (isCounted()) total.loads += 1;
    }
    if (run.copy) {
      events.put(now + changeMs, () => ((device.running = null), begin(device)));
      return;
    }
    if (engine.present !== run.state) {
      const isKnown = device.known.has(run.lora);
      changeMs += isKnown ? costs.refitKnownMs : costs.refitFirstMs;
      engine.present = run.state;
      if (isCounted()) total.refits += 1;
      if (isCounted() && !isKnown) total.firsts += 1;
    }
    device.known.delete(run.lora);
    device.known.set(run.lora, true);
    if (device.known.size > costs.adaptersKept) device.known.delete(device.known.keys().next().value);
    if (device.last !== run.state) device.turnEnds = now + changeMs + costs.turnMs;
    device.last = run.state;
    const startMs = now + changeMs;
    if (isCounted()) total.changeMs += changeMs;
    if (isCounted()) total.waits.push(startMs - run.atMs);
    events.put(startMs + pictureMs, () => {
      engine.usedMs = now;
      if (device.engines.get(run.structure) === engine) waitFor(engine, run.state, -1);
      each(device, (look) => (look.runs -= 1));
      if (isCounted()) total.runs += 1;
      device.running = null;
      begin(device);
    });
  }

  function arrive() {
    events.put(now - Math.log(1 - random()) / perMs, arrive);
    const lora = drawn();
    // Each LoRA belongs to one structure; by rank they go to all of them in turn.
    const structure = lora % structures;
    const state = `lora ${lora}`;
    const began = performance.now();
    const { device: name, spreadTo } = policies[policy]({ looks: looks[structure], state, count, random });
    if (isCounted()) total.placeMs.push(performance.now() - began);
    const device = devices[name];
    const engine = device.engines.get(structure) ?? makeEngine(device, structure);
    waitFor(engine, state, 1);
    each(device, (look) => (look.runs += 1));
    device.queue.push({ structure, lora, state, atMs: now });
    begin(device);
    if (spreadTo === null || devices[spreadTo].engines.has(structure)) return;
    makeEngine(devices[spreadTo], structure);
    devices[spreadTo].queue.push({ structure, copy: true });
    begin(devices[spreadTo]);
  }

  for (const device of devices)
    for (let slot = 0; slot < slots; slot += 1) makeEngine(device, (device.name + slot) % structures).loaded = true;
  events.put(0, arrive);
  for (;;) {
    const [ms, what] = events.take();
    if (ms >= endMs) break;
    now = ms;
    what();
  }
  const ratio = (value, digits = 3) => Number((value / Math.max(1, total.waits.length)).toFixed(digits));
  return {
    policy,
    load,
    picturesPerSecond: Number((total.runs / seconds).toFixed(1)),
    refitsPerRun: ratio(total.refits),
    firstRefitsPerRun: ratio(total.firsts),
    loadsPerRun: ratio(total.loads, 4),
    changeShare: Number((total.changeMs / (count * seconds * 1000)).toFixed(4)),
    waitMs: { p50: Math.round(quantile(total.waits, 0.5)), p99: Math.round(quantile(total.waits, 0.99)) },
    placeMs: { p50: Number(quantile(total.placeMs, 0.5).toFixed(3)), p99: Number(quantile(total.placeMs, 0.99).toFixed(3)) },
  };
}

function draw({ rows }, folder) {
  mkdirSync(folder, { recursive: true });
  const figures = {
    refits: ["refits per picture", (row) => row.refitsPerRun],
    wait: ["wait of a picture, p99 (ms)", (row) => row.waitMs.p99],
  };
  for (const [file, [title, of]] of Object.entries(figures)) {
    const lines = rows.map((row) => ({
      name: `${row.policy}, ${row.load}`,
      value: of(row),
      label: String(of(row)),
      own: row.policy.startsWith("structure and"),
    }));
    writeFileSync(join(folder, `pool-${file}.svg`), bars(`1,000 simulated GPUs, policy and load: ${title}, less is better`, lines));
  }
}

if (values.from !== undefined) {
  if (values.plots === undefined) throw new Error("expected --plots FOLDER beside --from FILE");
  draw(JSON.parse(readFileSync(values.from, "utf8")), values.plots);
} else {
  const number = (name) => Number(values[name]);
  const given = {
    devices: number("devices"),
    loras: number("loras"),
    structures: number("structures"),
    engines: number("engines"),
    seconds: number("seconds"),
    warm: number("warm"),
    exponent: number("zipf"),
  };
  const rows = values.loads.split(",").flatMap((load) => Object.keys(policies).map((policy) => simulate(policy, Number(load), given)));
  const result = { bench: "pool-simulation", machine: machine(), given, costs, rows };
  if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify(result, null, 1)}\n`);
  if (values.plots !== undefined) draw(result, values.plots);
  console.log(JSON.stringify(result));
}

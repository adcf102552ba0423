#!/usr/bin/env node
// Engines in a Ray cluster of several nodes on this computer, against hosts of the sidecar's own on the same cores; then with actors and nodes that die.
//   node bench/ray-pool.mjs --python PYTHON [--nodes 4] [--actors 2] [--clients 50] [--structures 3] [--stacks 20] [--seconds 60] [--kill-actor 2] [--kill-node 20] [--side 16] [--files auto]
// PYTHON has Ray, PyTorch and diffusers (models and graphs are made once). Every answer is compared with the one that this checkpoint and stack had before. Phases (--phases), each of --seconds:
//   local    hosts of the sidecar's own, as many as there are actors
//   ray      actors
//   harm     for each number of --kill-actor (16,8,4,2) an actor is killed every so many seconds; a node every ten times as many, or as --kill-node lists. With calm, nothing dies first
//   head     first nothing dies, then the head dies at the beginning (at most 50 s: Ray ends actors a minute after their head)
//   one,all  one actor with its share of the clients, and all of them. With --card-ms each step also waits so long without a core, as if a card computed it: else two cores are the limit,
//            whatever carries the steps. The wait is simulated, and named so in what is printed.
import { spawn, execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { readDiscovery } from "../sidecar/dist/src/client/index.js";
import { readDemoAssets } from "../sidecar/dist/src/demo/index.js";
import { session } from "./support/counted-session.mjs";
import { idOf, machine, pause, quantile, serve } from "./support/serve.mjs";

const { values } = parseArgs({
  options: Object.fromEntries(
    Object.entries({
      python: "python",
      folder: "",
      nodes: "4",
      actors: "2",
      clients: "50",
      structures: "3",
      stacks: "20",
      seconds: "60",
      steps: "6",
      side: "16",
      turn: "500",
      "kill-actor": "2",
      "kill-node": "",
      "card-ms": "0",
      files: "auto",
      phases: "local,ray,calm,harm",
    }).map(([name, value]) => [name, { type: "string", default: value }]),
  ),
});
const number = (name) => Number(values[name]);
const [nodes, perNode, clients, structures, stacks, seconds, steps, side] = [
  "nodes",
  "actors",
  "clients",
  "structures",
  "stacks",
  "seconds",
  "steps",
  "side",
].map(number);
const actors = nodes * perNode;
const cardMs = number("card-ms");
const support = join(dirname(fileURLToPath(import.meta.url)), "support");
const kept = values.folder !== "";
const folder = kept ? values.folder : mkdtempSync(join(tmpdir(), "refit-ray-bench-"));
const loras = 5;
for (const name of ["loras", "checkpoints", "data"]) mkdirSync(join(folder, name), { recursive: true, mode: 0o700 });
if (!existsSync(join(folder, "checkpoints", `unet-${structures - 1}.safetensors`)))
  execFileSync(values.python, [join(support, "narrow_unets.py"), folder, String(structures), String(loras)], { stdio: "inherit" });

const assets = await readDemoAssets();
const bytes = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
const conditioning = new Float32Array(2 * assets.conditioning.length);
for (let row = 0; row < 2; row += 1) conditioning.set(assets.conditioning, row * assets.conditioning.length);
const inputsOf = (seed) => [
  {
    name: "sample",
    dtype: "f32",
    shape: [2, 4, side, side],
    data: bytes(Float32Array.from({ length: 8 * side * side }, (_, at) => Math.sin(at * 0.7 + seed))),
  },
  { name: "timestep", dtype: "f32", shape: [2], data: bytes(new Float32Array(2).fill(500)) },
  { name: "encoder_hidden_states", dtype: "f32", shape: [2, 4, 768], data: bytes(conditioning) },
];
const seeds = 2;
const inputs = Array.from({ length: seeds }, (_, seed) => inputsOf(seed));

const floats = (data) => new Float32Array(data.slice().buffer);
const distance = (a, b) =>
  a.reduce((most, value, at) => Math.max(most, Math.abs(value - b[at])), 0) / b.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
const expected = new Map();

async function runsOf({ client }) {
  const list = [];
  for (let structure = 0; structure < structures; structure += 1) {
    const checkpoint = await idOf(client, "checkpoint", `unet-${structure}.safetensors`);
    const ids = [];
    for (let lora = 0; lora < loras; lora += 1) ids.push(await idOf(client, "adapter", `unet-${structure}-lora-${lora}.safetensors`));
    for (let stack = 0; stack < stacks; stack += 1)
      list.push({
        name: `${structure}/${stack}`,
        params: {
          ...{ checkpoint, profile: "auto", precision: "auto", host: "auto", mode: "comfyui", residuals: false, priority: "user" },
          stack: [{ adapter: ids[stack % loras], strength: 0.3 + 0.1 * Math.floor(stack / loras) }],
        },
      });
  }
  return list;
}

/** What each checkpoint and stack computes, while nothing else runs. */
async function learn(dataDir, runs) {
  const own = await session(dataDir);
  for (const run of runs) {
    const { lease } = (await own.call("engine.prepare", run.params)).result;
    for (let seed = 0; seed < seeds; seed += 1)
      expected.set(`${run.name}/${seed}`, floats((await own.call("engine.step", { lease }, inputs[seed])).tensors[0].data));
    await own.call("engine.release", { lease });
  }
  await own.close();
  const all = [...expected.values()].filter((_, at) => at % seeds === 0);
  const nearest = Math.min(...all.flatMap((a, i) => all.slice(i + 1).map((b) => distance(a, b))));
  console.log(JSON.stringify({ what: "expected", outputs: expected.size, nearest_two: Number(nearest.toPrecision(3)) }));
}

async function load(dataDir, runs, forMs, draw, clientCount = clients) {
  const found = { answers: 0, inTime: 0, crossed: 0, failed: [], waits: [], opens: [] };
  const sessions = await Promise.all(Array.from({ length: clientCount }, () => session(dataDir)));
  const began = performance.now();
  const until = began + forMs;
  await Promise.all(
    sessions.map(async (own, index) => {
      while (performance.now() < until) {
        const run = runs[draw(runs.length)];
        const began = performance.now();
        try {
          const { lease } = (await own.call("engine.prepare", run.params)).result;
          found.opens.push(performance.now() - began);
          for (let step = 0; step < steps && performance.now() < until; step += 1) {
            const seed = (index + step) % seeds;
            const asked = performance.now();
            const { tensors } = await own.call("engine.step", { lease }, inputs[seed]);
            found.waits.push(performance.now() - asked);
            found.answers += 1;
            if (performance.now() <= until) found.inTime += 1;
            if (distance(floats(tensors[0].data), expected.get(`${run.name}/${seed}`)) > 1e-3) found.crossed += 1;
          }
          await own.call("engine.release", { lease });
        } catch (error) {
          found.failed.push(`${error.code}: ${error.message}`.slice(0, 200));
          await pause(50);
        }
      }
    }),
  );
  const tookS = (performance.now() - began) / 1000;
  const byCode = {};
  for (const text of found.failed) byCode[text.split(":")[0]] = (byCode[text.split(":")[0]] ?? 0) + 1;
  const counts = sessions.map((own) => own.counts());
  const sum = (key) => counts.reduce((total, row) => total + row[key], 0);
  await Promise.all(sessions.map((own) => own.close()));
  return {
    steps_per_s: Number(((found.inTime * 1000) / forMs).toFixed(2)),
    steps: found.answers,
    // From the window's end until the last call that was under way then had its answer.
    settled_after_s: Number((tookS - forMs / 1000).toFixed(1)),
    calls: sum("asked"),
    lost: sum("unanswered"),
    duplicated: sum("duplicated"),
    crossed: found.crossed,
    failed: found.failed.length,
    ...(found.failed.length > 0 ? { failed_by_code: byCode, failures: [...new Set(found.failed)].slice(0, 5) } : {}),
    step_ms: timesOf(found.waits),
    prepare_ms: timesOf(found.opens),
  };
}

const timesOf = (ms) => ({
  p50: Math.round(quantile(ms, 0.5)),
  p99: Math.round(quantile(ms, 0.99)),
  max: Math.round(Math.max(0, ...ms)),
});

function draws(seed) {
  let value = seed;
  return (below) => Math.floor((((value = (Math.imul(value, 1664525) + 1013904223) >>> 0) / 2 ** 32) * below) % below);
}

const common = ["--host", "onnxruntime", "--python", values.python, "--warm", "off", "--spare-host", "off", "--turn", values.turn];
if (cardMs > 0) {
  const preload = new URL("support/waiting-steps.mjs", import.meta.url).href;
  common.push("--host-env", `NODE_OPTIONS=--import=${preload}`, "--host-env", `REFIT_BENCH_CARD_MS=${cardMs}`);
}
const dataDir = join(folder, "data");
const statusOf = async ({ client }) => (await client.call("status", {})).result;

/** Until every device serves and no engine more is loaded, for a minute at most. Answers how many serve. */
async function warmUp(sidecar, runs, clientCount) {
  let engines = 0;
  for (let slice = 0; slice < 6; slice += 1) {
    await load(dataDir, runs, 10_000, draws(7 + slice), clientCount);
    const { devices } = await statusOf(sidecar);
    const before = engines;
    engines = devices.reduce((sum, device) => sum + device.engines, 0);
    if (engines === before && devices.every(({ state }) => state === "up" || state === "slow")) break;
  }
  return (await statusOf(sidecar)).devices.filter(({ state }) => state === "up" || state === "slow").length;
}

const results = {};
/** `windows`: what is done to the cluster meanwhile, by name; each has a row of its own. */
async function phase(name, flags, { windows = { [name]: null }, clientCount = clients } = {}) {
  rmSync(join(dataDir, "sidecar.json"), { force: true });
  const sidecar = await serve({ folder }, [...common, ...flags], ["host"]);
  try {
    const runs = await runsOf(sidecar);
    if (expected.size === 0) await learn(dataDir, runs);
    const up = await warmUp(sidecar, runs, clientCount);
    for (const [window, harm] of Object.entries(windows)) await measure(window, sidecar, runs, up, harm, clientCount);
  } finally {
    await sidecar.close();
  }
}

async function measure(name, sidecar, runs, up, harm, clientCount) {
  const before = (await statusOf(sidecar)).totals;
  const cpuBefore = cpuMs();
  const loadBefore = loadOf();
  const until = performance.now() + seconds * 1000;
  const isOver = () => performance.now() >= until;
  const serving = watchServing(sidecar, isOver);
  const harmed = harm?.(sidecar, isOver);
  const row = await load(dataDir, runs, seconds * 1000, draws(11), clientCount);
  const busy = (cpuMs() - cpuBefore) / (seconds * 1000 + row.settled_after_s * 1000);
  const did = await harmed;
  const after = await statusOf(sidecar);
  const { url, token } = await readDiscovery(dataDir);
  const metrics = await fetch(new URL("/metrics", url), { headers: { authorization: `Bearer ${token}` } }).then((reply) => reply.text());
  const gateway = Object.fromEntries(
    [...metrics.matchAll(/refit_gateway_step_ms\{quantile="([\d.]+)"\} ([\d.]+)/g)].map(([, q, ms]) => [`p${Number(q) * 100}`, Number(ms)]),
  );
  results[name] = {
    clients: clientCount,
    hosts_up: up,
    serving: await serving,
    cores_busy: Number(busy.toFixed(2)),
    load: [loadBefore, loadOf()],
    ...row,
    refits: after.totals.refits - before.refits,
    ...(Object.keys(gateway).length > 0 ? { gateway_ms: gateway } : {}),
    ...did,
  };
  console.log(JSON.stringify({ what: name, ...results[name] }));
}

/** Of the last minute, on this whole computer. */
const loadOf = () => Number(loadavg()[0].toFixed(1));
/** Of this whole computer, others' work included. */
const cpuMs = () => cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0);

/** Mean number of devices that serve, looked at once a second. */
async function watchServing(sidecar, isOver) {
  const seen = [];
  while (!isOver()) {
    seen.push((await statusOf(sidecar)).devices.filter(({ state }) => state !== "down").length);
    await pause(1000);
  }
  return Number((seen.reduce((sum, count) => sum + count, 0) / Math.max(1, seen.length)).toFixed(1));
}

const wanted = new Set(values.phases.split(","));
const devices = Array.from({ length: actors }, (_, index) => `cpu:${index}`).join(",");
if (wanted.has("local")) await phase("local", ["--devices", devices]);
if (["ray", "harm", "head", "one", "all"].some((name) => wanted.has(name))) {
  // Nodes of one computer keep their copies apart from other runs'.
  process.env.REFIT_RAY_CACHE ??= join(folder, "copies");
  const cluster = spawn(values.python, [join(support, "ray_cluster.py"), String(nodes), String(perNode)], {
    stdio: ["pipe", "pipe", "ignore"],
  });
  const lines = createInterface({ input: cluster.stdout })[Symbol.asyncIterator]();
  const said = async () => JSON.parse((await lines.next()).value);
  const { address } = await said();
  const rayOf = (count) => [
    "--engines",
    "ray",
    "--ray-address",
    address,
    "--ray-actors",
    String(count),
    "--ray-gpus",
    "0",
    "--ray-cpus",
    "1",
    "--ray-files",
    values.files,
  ];
  const ray = rayOf(actors);
  const tell = async (line) => (cluster.stdin.write(`${line}\n`), said());
  const parentOf = (pid) => Number(readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1).split(" ")[1]);

  const harmEvery = (actorS, nodeS) => async (sidecar, isOver) => {
    const did = { actors_killed: 0, nodes_lost: 0 };
    const draw = draws(3);
    const every = async (ms, work) => {
      for (let next = performance.now() + ms; !isOver(); next += ms) {
        while (performance.now() < next && !isOver()) await pause(50);
        if (!isOver()) await work();
      }
    };
    await Promise.all([
      every(actorS * 1000, async () => {
        const up = (await statusOf(sidecar)).devices.filter(({ pids }) => pids.length > 0);
        if (up.length === 0) return;
        try {
          process.kill(parentOf(up[draw(up.length)].pids[0]), "SIGKILL");
          did.actors_killed += 1;
        } catch {
          // It has died already.
        }
      }),
      every(nodeS * 1000, async () => {
        await tell(`lose ${draw(nodes)}`);
        did.nodes_lost += 1;
        await tell("add");
      }),
    ]);
    return did;
  };
  try {
    if (wanted.has("ray")) await phase("ray", ray);
    if (wanted.has("one")) await phase("one", rayOf(1), { clientCount: Math.max(1, Math.round(clients / actors)) });
    if (wanted.has("all")) await phase("all", ray);
    if (wanted.has("head")) await phase("head", ray, { windows: { "with its head": null, "without its head": () => tell("lose-head") } });
    if (wanted.has("harm")) {
      const rates = values["kill-actor"].split(",").map(Number);
      const nodeRates = values["kill-node"] === "" ? rates.map((rate) => 10 * rate) : values["kill-node"].split(",").map(Number);
      const windows = wanted.has("calm") ? { calm: null } : {};
      for (const [at, rate] of rates.entries()) windows[`an actor every ${rate} s`] = harmEvery(rate, nodeRates[at]);
      await phase("harm", ray, { windows });
    }
  } finally {
    cluster.stdin.end();
    await new Promise((resolve) => cluster.once("exit", resolve));
  }
}
if (!kept) rmSync(folder, { recursive: true, force: true });
const { local, ray, one, all, calm } = results;
const rows = Object.entries(results);
const total = (...keys) => rows.reduce((sum, [, row]) => sum + keys.reduce((part, key) => part + row[key], 0), 0);
console.log(
  JSON.stringify({
    bench: "ray-pool",
    machine: machine(),
    ...{ nodes, actors, clients, structures, stacks, seconds, side },
    ...(cardMs > 0 ? { simulated_wait_of_a_step_ms: cardMs } : {}),
    results: [
      ...(local === undefined || ray === undefined
        ? []
        : [
            {
              name: "steps through Ray, local hosts on the same cores = 1",
              value: Number((ray.steps_per_s / local.steps_per_s).toFixed(2)),
              unit: "ratio",
            },
          ]),
      ...(one === undefined || all === undefined
        ? []
        : [
            {
              name: `steps of ${actors} actors, ${actors} times one actor = 1`,
              value: Number((all.steps_per_s / one.steps_per_s / actors).toFixed(2)),
              unit: "ratio",
            },
          ]),
      ...(calm === undefined
        ? []
        : rows
            .filter(([name]) => name.startsWith("an actor every"))
            .map(([name, row]) => ({
              name: `steps, ${name}, calm = 1`,
              value: Number((row.steps_per_s / calm.steps_per_s).toFixed(2)),
              unit: "ratio",
            }))),
      { name: "answers lost, duplicated or crossed", value: total("lost", "duplicated", "crossed"), unit: "answers" },
      { name: "calls that ended with an error", value: total("failed"), unit: "answers" },
    ],
  }),
);

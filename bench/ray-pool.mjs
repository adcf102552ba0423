#!/usr/bin/env node
// Engines in a Ray cluster of several nodes on this computer, against hosts of the sidecar's own on the same cores; then with actors and nodes that die.
//   node bench/ray-pool.mjs --python PYTHON [--nodes 4] [--actors 2] [--clients 50] [--structures 3] [--stacks 20] [--seconds 60] [--kill-actor 2] [--kill-node 20] [--side 16]
// PYTHON has Ray, PyTorch and diffusers (models and graphs are made once). Three phases of the same length: local hosts, as many as there are actors; Ray; Ray while an actor
// is killed every --kill-actor seconds and a node is lost every --kill-node seconds. Every answer is compared with the one that this checkpoint and stack had before.
import { spawn, execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { decodeFrame, encodeFrame, protocolVersion } from "../protocol/dist/index.js";
import { readDiscovery } from "../sidecar/dist/src/client/index.js";
import { readDemoAssets } from "../sidecar/dist/src/demo/index.js";
import { WebSocket } from "ws";
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
      "kill-node": "20",
      phases: "local,ray,harm",
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

/** A session that counts every answer: to which call it came, and how often. */
async function session(dataDir) {
  const { wsUrl, token, version } = await readDiscovery(dataDir);
  const socket = new WebSocket(wsUrl, { perMessageDeflate: false, headers: { authorization: `Bearer ${token}` } });
  await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
  const waiting = new Map();
  const answered = new Map();
  let last = 0;
  socket.on("message", (data, isBinary) => {
    const { message, tensors } = isBinary ? decodeFrame(data) : { message: JSON.parse(data.toString()), tensors: [] };
    if (message.method !== undefined) return;
    answered.set(message.id, (answered.get(message.id) ?? 0) + 1);
    const call = waiting.get(message.id);
    waiting.delete(message.id);
    if (message.error === undefined) call?.resolve({ result: message.result, tensors });
    else call?.reject(Object.assign(new Error(message.error.message), { code: message.error.data?.code }));
  });
  const call = (method, params, tensors = []) => {
    last += 1;
    const id = last;
    const message = { jsonrpc: "2.0", id, method, params };
    socket.send(tensors.length > 0 ? encodeFrame(message, tensors) : JSON.stringify(message));
    return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
  };
  await call("hello", { protocolVersions: [protocolVersion], client: { name: "bench", version }, capabilities: [] });
  return {
    call,
    counts: () => ({
      asked: last,
      unanswered: last - answered.size,
      duplicated: [...answered.values()].filter((count) => count > 1).length + [...answered.keys()].filter((id) => !(id <= last)).length,
    }),
    close: () => new Promise((resolve) => (socket.once("close", resolve), socket.close())),
  };
}

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

async function load(dataDir, runs, forMs, draw) {
  const found = { answers: 0, crossed: 0, failed: [], waits: [] };
  const until = performance.now() + forMs;
  const sessions = await Promise.all(Array.from({ length: clients }, () => session(dataDir)));
  const began = performance.now();
  await Promise.all(
    sessions.map(async (own, index) => {
      while (performance.now() < until) {
        const run = runs[draw(runs.length)];
        try {
          const { lease } = (await own.call("engine.prepare", run.params)).result;
          for (let step = 0; step < steps && performance.now() < until; step += 1) {
            const seed = (index + step) % seeds;
            const asked = performance.now();
            const { tensors } = await own.call("engine.step", { lease }, inputs[seed]);
            found.waits.push(performance.now() - asked);
            found.answers += 1;
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
  const counts = sessions.map((own) => own.counts());
  const sum = (key) => counts.reduce((total, row) => total + row[key], 0);
  await Promise.all(sessions.map((own) => own.close()));
  return {
    steps_per_s: Number((found.answers / tookS).toFixed(2)),
    steps: found.answers,
    calls: sum("asked"),
    lost: sum("unanswered"),
    duplicated: sum("duplicated"),
    crossed: found.crossed,
    failed: found.failed.length,
    failures: [...new Set(found.failed)].slice(0, 5),
    step_ms: {
      p50: Math.round(quantile(found.waits, 0.5)),
      p99: Math.round(quantile(found.waits, 0.99)),
      max: Math.round(Math.max(0, ...found.waits)),
    },
  };
}

function draws(seed) {
  let value = seed;
  return (below) => Math.floor((((value = (Math.imul(value, 1664525) + 1013904223) >>> 0) / 2 ** 32) * below) % below);
}

const common = ["--host", "onnxruntime", "--python", values.python, "--warm", "off", "--spare-host", "off", "--turn", values.turn];
const dataDir = join(folder, "data");
const statusOf = async ({ client }) => (await client.call("status", {})).result;

/** Every device has an engine of every structure it will need soon; hosts are up. */
async function warmUp(sidecar, runs) {
  await load(dataDir, runs, Math.min(20_000, seconds * 500), draws(7));
  return (await statusOf(sidecar)).devices.filter(({ state }) => state === "up").length;
}

const results = {};
async function phase(name, flags, harm) {
  rmSync(join(dataDir, "sidecar.json"), { force: true });
  const sidecar = await serve({ folder }, [...common, ...flags], ["host"]);
  try {
    const runs = await runsOf(sidecar);
    if (expected.size === 0) await learn(dataDir, runs);
    const up = await warmUp(sidecar, runs);
    const before = (await statusOf(sidecar)).totals;
    let isOver = false;
    const harmed = harm?.(sidecar, () => isOver);
    const row = await load(dataDir, runs, seconds * 1000, draws(11));
    isOver = true;
    const did = await harmed;
    const after = await statusOf(sidecar);
    const { url, token } = await readDiscovery(dataDir);
    const metrics = await fetch(new URL("/metrics", url), { headers: { authorization: `Bearer ${token}` } }).then((reply) => reply.text());
    const gateway = Object.fromEntries(
      [...metrics.matchAll(/refit_gateway_step_ms\{quantile="([\d.]+)"\} ([\d.]+)/g)].map(([, q, ms]) => [
        `p${Number(q) * 100}`,
        Number(ms),
      ]),
    );
    results[name] = {
      hosts_up: up,
      ...row,
      refits: after.totals.refits - before.refits,
      ...(Object.keys(gateway).length > 0 ? { gateway_ms: gateway } : {}),
      ...did,
    };
    console.log(JSON.stringify({ what: name, ...results[name] }));
  } finally {
    await sidecar.close();
  }
}

const wanted = new Set(values.phases.split(","));
const devices = Array.from({ length: actors }, (_, index) => `cpu:${index}`).join(",");
if (wanted.has("local")) await phase("local", ["--devices", devices]);
if (wanted.has("ray") || wanted.has("harm")) {
  const cluster = spawn(values.python, [join(support, "ray_cluster.py"), String(nodes), String(perNode)], {
    stdio: ["pipe", "pipe", "ignore"],
  });
  const lines = createInterface({ input: cluster.stdout })[Symbol.asyncIterator]();
  const said = async () => JSON.parse((await lines.next()).value);
  const { address } = await said();
  const ray = ["--engines", "ray", "--ray-address", address, "--ray-actors", String(actors), "--ray-gpus", "0", "--ray-cpus", "1"];
  const tell = async (line) => (cluster.stdin.write(`${line}\n`), said());
  const parentOf = (pid) => Number(readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1).split(" ")[1]);

  async function harm(sidecar, isOver) {
    const did = { actors_killed: 0, nodes_lost: 0 };
    const draw = draws(3);
    const every = async (ms, work) => {
      for (let next = performance.now() + ms; !isOver(); next += ms) {
        while (performance.now() < next && !isOver()) await pause(50);
        if (!isOver()) await work();
      }
    };
    await Promise.all([
      every(number("kill-actor") * 1000, async () => {
        const up = (await statusOf(sidecar)).devices.filter(({ pids }) => pids.length > 0);
        if (up.length === 0) return;
        try {
          process.kill(parentOf(up[draw(up.length)].pids[0]), "SIGKILL");
          did.actors_killed += 1;
        } catch {
          // It has died already.
        }
      }),
      every(number("kill-node") * 1000, async () => {
        await tell(`lose ${draw(nodes)}`);
        did.nodes_lost += 1;
        await tell("add");
      }),
    ]);
    return did;
  }
  try {
    if (wanted.has("ray")) await phase("ray", ray);
    if (wanted.has("harm")) await phase("harm", ray, harm);
  } finally {
    cluster.stdin.end();
    await new Promise((resolve) => cluster.once("exit", resolve));
  }
}
if (!kept) rmSync(folder, { recursive: true, force: true });
const { local, ray, harm } = results;
const broken = [local, ray, harm].flatMap((row) => (row === undefined ? [] : [row.lost + row.duplicated + row.crossed + row.failed]));
console.log(
  JSON.stringify({
    bench: "ray-pool",
    machine: machine(),
    ...{ nodes, actors, clients, structures, stacks, seconds, side },
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
      { name: "answers lost, duplicated, crossed or failed", value: broken.reduce((sum, count) => sum + count, 0), unit: "answers" },
    ],
  }),
);

// What the benches of a whole sidecar share: `refit-sidecar serve` from the build on folders of its own with the demo's model, and clients of it.
import { spawn } from "node:child_process";
import { closeSync, copyFileSync, fstatSync, mkdirSync, mkdtempSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { connect, readDiscovery } from "../../sidecar/dist/src/client/index.js";
import { readDemoAssets } from "../../sidecar/dist/src/demo/index.js";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
export const demo = join(root, "sidecar/demo");
const cli = join(root, "sidecar/bin/refit-sidecar.mjs");
const assets = await readDemoAssets();

export const machine = () =>
  `${cpus().length} x ${cpus()[0]?.model ?? "unknown"}, Node ${process.versions.node}, load ${loadavg()[0].toFixed(1)}`;
export const sorted = (values) => [...values].sort((a, b) => a - b);
export const quantile = (values, part) => sorted(values)[Math.min(values.length - 1, Math.floor(values.length * part))];
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A place for a sidecar: folders with the demo's checkpoint and adapters; it stays when a sidecar ends, so that another can start there. */
export function makePlace() {
  const folder = mkdtempSync(join(tmpdir(), "refit-bench-"));
  for (const name of ["loras", "checkpoints"]) mkdirSync(join(folder, name));
  mkdirSync(join(folder, "data"), { mode: 0o700 });
  const put = (kind, name, from) => {
    copyFileSync(from, join(folder, "incoming"));
    renameSync(join(folder, "incoming"), join(folder, kind, name));
  };
  put("checkpoints", "demo.safetensors", join(demo, "demo-unet.safetensors"));
  for (const name of ["only-sevens", "small", "thick-strokes"])
    put("loras", `${name}.safetensors`, join(demo, "loras", `${name}.safetensors`));
  return { folder, put, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** A second checkpoint of the demo's structure: the last of its values are others. */
export function otherCheckpoint(folder) {
  const path = join(folder, "other");
  copyFileSync(join(demo, "demo-unet.safetensors"), path);
  const file = openSync(path, "r+");
  writeSync(file, Buffer.alloc(64), 0, 64, fstatSync(file).size - 64);
  closeSync(file);
  return path;
}

/** Starts a sidecar in a place; `client` is connected and hears `topics`. */
export async function serve({ folder }, flags = [], topics = ["refit", "engine", "delta", "job"]) {
  const dataDir = join(folder, "data");
  const args = [
    "serve",
    "--json",
    "--stop-with-stdin",
    "--data-dir",
    dataDir,
    "--loras",
    join(folder, "loras"),
    "--checkpoints",
    join(folder, "checkpoints"),
    ...flags,
  ];
  const child = spawn(process.execPath, [cli, ...args], { stdio: ["pipe", "pipe", "ignore"] });
  await new Promise((resolve, reject) => {
    child.stdout.once("data", resolve);
    child.once("exit", (code) => reject(new Error(`serve ended with ${code}`)));
  });
  const open = async () => connect(await readDiscovery(dataDir), "bench");
  const client = await open();
  const heard = [];
  client.onEvent((event) => heard.push(event));
  await client.call("events.subscribe", { topics });
  return {
    client,
    open,
    heard,
    async close() {
      await client.close();
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.stdin.end();
      await ended;
    },
  };
}

/** The catalogue's id of a file, as soon as it has one. */
export async function idOf(client, kind, name) {
  for (;;) {
    const { result } = await client.call("catalog.list", { kind });
    const entry = result.entries.find((other) => other.name === name && other.problem === null);
    if (entry) return entry.id;
    await pause(20);
  }
}

export const prepare = async (client, checkpoint, stack, priority = "user") =>
  (
    await client.call("engine.prepare", {
      checkpoint,
      stack,
      profile: "auto",
      precision: "auto",
      host: "auto",
      mode: "comfyui",
      residuals: false,
      priority,
    })
  ).result;

/** One denoiser call of the demo's model: `side` is the latent's height and width. */
export async function step(client, lease, { side = 16, batch = 2, seed = 1 } = {}) {
  const latents = Float32Array.from({ length: batch * 4 * side * side }, (_, index) => Math.sin(index * 0.7 + seed));
  const bytes = (values) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const conditioning = new Float32Array(batch * assets.conditioning.length);
  for (let row = 0; row < batch; row += 1) conditioning.set(assets.conditioning, row * assets.conditioning.length);
  const { tensors } = await client.call(
    "engine.step",
    { lease },
    {
      tensors: [
        { name: "sample", dtype: "f32", shape: [batch, 4, side, side], data: bytes(latents) },
        { name: "timestep", dtype: "f32", shape: [batch], data: bytes(new Float32Array(batch).fill(500)) },
        { name: "encoder_hidden_states", dtype: "f32", shape: [batch, 4, 768], data: bytes(conditioning) },
      ],
    },
  );
  return Buffer.from(tensors[0].data);
}

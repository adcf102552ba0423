// A whole sidecar as users run it (`refit-sidecar serve`, from the build), on folders of its own, with a client.

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, renameSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { connect, readDiscovery } from "../../../sidecar/src/client/index.ts";
import type { Client, HeardEvent } from "../../../sidecar/src/client/index.ts";
import { readDemoAssets } from "../../../sidecar/src/demo/index.ts";

export const demo = fileURLToPath(new URL("../../../sidecar/demo/", import.meta.url));
export const demoCheckpoint = join(demo, "demo-unet.safetensors");
export const demoLora = (name: string) => join(demo, "loras", `${name}.safetensors`);

export interface Bench {
  readonly folder: string;
  readonly child: ChildProcess;
  readonly url: string;
  readonly dataDir: string;
  readonly client: Client;
  readonly heard: readonly HeardEvent[];
  readonly logged: readonly string[];
  readonly path: (kind: "loras" | "checkpoints" | "live", name: string) => string;
  /** Copies beside the folder and renames in, as a careful program does. */
  readonly place: (kind: "loras" | "checkpoints" | "live", name: string, from: string) => void;
  readonly close: () => Promise<void>;
}

const cli = fileURLToPath(new URL("../../../sidecar/bin/refit-sidecar.mjs", import.meta.url));

export interface BenchOptions {
  /** Further flags of `serve`. */
  readonly flags?: readonly string[];
  /** An earlier bench's folder: a restart. */
  readonly folder?: string;
  /** Fills the folders before the sidecar starts. */
  readonly fill?: (place: Bench["place"]) => void;
  readonly env?: Readonly<Record<string, string>>;
  /** Told of the process before it listens: a test may kill it there. */
  readonly onSpawn?: (child: ChildProcess) => void;
}

export async function startBench({
  flags = [],
  folder = mkdtempSync(join(tmpdir(), "refit-bench-")),
  fill = () => undefined,
  env = {},
  onSpawn = () => undefined,
}: BenchOptions = {}): Promise<Bench> {
  const dataDir = join(folder, "data");
  for (const name of ["loras", "checkpoints", "live", "data"]) mkdirSync(join(folder, name), { recursive: true });
  chmodSync(dataDir, 0o700);
  const path: Bench["path"] = (kind, name) => join(folder, kind, name);
  const place: Bench["place"] = (kind, name, from) => {
    copyFileSync(from, join(folder, "incoming"));
    renameSync(join(folder, "incoming"), path(kind, name));
  };
  fill(place);
  const args = [
    "serve",
    "--json",
    "--stop-with-stdin",
    "--log-level",
    "debug",
    "--data-dir",
    dataDir,
    "--loras",
    join(folder, "loras"),
    "--checkpoints",
    join(folder, "checkpoints"),
    "--live-folder",
    join(folder, "live"),
    ...flags,
  ];
  const child = spawn(process.execPath, [cli, ...args], { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, ...env } });
  onSpawn(child);
  const logged: string[] = [];
  createInterface({ input: child.stderr }).on("line", (line) => void logged.push(line));
  const line = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).once("line", resolve);
    child.once("exit", (code) => reject(new Error(`serve ended with ${code}: ${logged.join("\n")}`)));
  });
  const started = JSON.parse(line) as { ok: boolean; url: string };
  if (!started.ok) throw new Error(line);
  const client = await connect(await readDiscovery(dataDir), "test");
  await client.call("events.subscribe", { topics: ["arrival", "catalog", "delta", "refit", "engine", "host", "live"] });
  const heard: HeardEvent[] = [];
  client.onEvent((event) => void heard.push(event));
  return {
    folder,
    child,
    client,
    heard,
    logged,
    path,
    place,
    dataDir,
    url: started.url,
    async close() {
      await client.close();
      const ended = new Promise((resolve) =>
        child.exitCode === null && child.signalCode === null ? child.once("exit", resolve) : resolve(null),
      );
      child.stdin.end();
      await ended;
    },
  };
}

/** Waits for a condition by asking again; the time-out is the test's own. */
export async function until<Value>(
  what: string,
  ask: () => Promise<Value | null | false | undefined> | Value | null | false | undefined,
  timeoutMs = 45_000,
): Promise<Value> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const value = await ask();
    if (value) return value;
    if (performance.now() > end) throw new Error(`waited ${timeoutMs} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 15));
  }
}

export const statusOf = async (bench: Bench) => (await bench.client.call("status", {})).result;

/** The live engine has exactly these strengths in its stack, and says LIVE. */
export const liveStack = (bench: Bench, strengths: readonly number[]) =>
  until(`a live stack of [${strengths.join(", ")}]`, async () => {
    const status = await statusOf(bench);
    const stack = status.live?.weights?.stack.map((item) => item.strength);
    return stack?.join() === strengths.join() && status.engines[0]?.state === "LIVE" ? status : null;
  });

const assets = await readDemoAssets();

export interface Stack {
  readonly adapter: string;
  readonly strength: number;
  readonly targets?: string;
}

/** What a run of this checkpoint and stack asks for. */
export const runOf = (checkpoint: string, stack: readonly Stack[]) => {
  const fixed = { precision: "auto", host: "auto", mode: "comfyui", residuals: false } as const;
  return { checkpoint, stack: [...stack], ...fixed };
};

export async function prepare(
  bench: Bench,
  checkpoint: string,
  stack: readonly Stack[],
  extra: Partial<Parameters<Client["call"]>[1]> = {},
) {
  const { result } = await bench.client.call("engine.prepare", { ...runOf(checkpoint, stack), ...extra });
  return result;
}

/** One denoiser call on fixed inputs; the output's bytes. */
export async function step(bench: Bench, lease: string, seed = 1): Promise<Buffer> {
  const latents = Float32Array.from({ length: 4 * 8 * 8 }, (_, index) => Math.sin(index * 0.7 + seed));
  const bytes = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const { tensors } = await bench.client.call(
    "engine.step",
    { lease },
    {
      tensors: [
        { name: "sample", dtype: "f32", shape: [1, 4, 8, 8], data: bytes(latents) },
        { name: "timestep", dtype: "f32", shape: [1], data: bytes(new Float32Array([500])) },
        { name: "encoder_hidden_states", dtype: "f32", shape: [1, 4, 768], data: bytes(assets.conditioning) },
      ],
    },
  );
  return Buffer.from(tensors[0]!.data);
}

/** What a stack computes: prepared, stepped once, released. */
export async function output(bench: Bench, checkpoint: string, stack: readonly Stack[]): Promise<Buffer> {
  const { lease } = await prepare(bench, checkpoint, stack);
  try {
    return await step(bench, lease);
  } finally {
    await bench.client.call("engine.release", { lease });
  }
}

export async function idOf(bench: Bench, kind: "adapter" | "checkpoint", name: string): Promise<string> {
  return until(`${name} in the catalog`, async () => {
    const { result } = await bench.client.call("catalog.list", { kind });
    return result.entries.find((entry) => entry.name === name && entry.problem === null)?.id;
  });
}

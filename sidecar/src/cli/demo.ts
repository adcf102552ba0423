import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { copyFile, mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import type { Command } from "commander";
import { connect, readDiscovery } from "../client/index.ts";
import type { Client, HeardEvent } from "../client/index.ts";
import { classify, decode, demoFolder, gridPng, readDemoAssets, sample, stepInputs } from "../demo/index.ts";
import type { DemoAssets, DemoLora } from "../demo/index.ts";
import { codeFrom, Failure } from "../failure/index.ts";
import { replaceFile } from "../files/index.ts";
import { packageRoot } from "../package-root.ts";
import { exitCode } from "./exit.ts";
import { checkOutputFolder } from "./outputs.ts";
import { asBytes } from "../terms/index.ts";

interface DemoFlags {
  readonly json?: boolean;
  readonly keep?: boolean;
  readonly out: string;
}

/** Generous for a machine that is busy with something else; a quiet one needs a tenth of it. */
const patienceMs = 60_000;
/** Tells a folder of the demo from any other. */
const marker = "made-by-refit-demo.txt";
/** Pictures drawn in one denoiser call. */
const batch = 16;

interface Running {
  readonly child: ChildProcess;
  readonly client: Client;
  readonly dataDir: string;
  readonly url: string;
}

/** The sidecar as users run it, in a process of its own; it ends with us. */
async function startServe(folder: string): Promise<Running> {
  const dataDir = join(folder, "data");
  const args = [
    "serve",
    "--json",
    "--stop-with-stdin",
    "--log-level",
    "warn",
    "--data-dir",
    dataDir,
    "--checkpoints",
    join(folder, "checkpoints"),
    "--loras",
    join(folder, "loras"),
    "--live-folder",
    join(folder, "live"),
  ];
  const child = spawn(process.execPath, [join(packageRoot, "bin", "refit-sidecar.mjs"), ...args], { stdio: ["pipe", "pipe", "inherit"] });
  const line = await new Promise<string>((onLine, onEnd) => {
    createInterface({ input: child.stdout }).once("line", onLine);
    child.once("exit", (code) =>
      onEnd(new Failure("DEMO_SIDECAR", `the sidecar ended with status ${code} before it listened; its messages are above`, {})),
    );
  });
  const started = JSON.parse(line) as {
    readonly ok: boolean;
    readonly url: string;
    readonly error?: { readonly code: string; readonly message: string };
  };
  if (!started.ok)
    throw new Failure(codeFrom(started.error?.code, "DEMO_SIDECAR"), started.error?.message ?? "the sidecar did not start", {});
  const client = await connect(await readDiscovery(dataDir), "refit-sidecar demo");
  await client.call("events.subscribe", { topics: ["arrival", "catalog", "delta", "refit", "engine", "host"] });
  return { child, client, dataDir, url: started.url };
}

/** The sidecar closes its engines in a second or two; the demo's end does not hang on one that a system keeps from ending. */
const endPatienceMs = 20_000;

async function endServe(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const ended = new Promise((stop) => child.once("exit", stop));
  child.stdin?.end();
  const timer = setTimeout(() => void child.kill("SIGKILL"), endPatienceMs);
  await ended;
  clearTimeout(timer);
}

type Status = Awaited<ReturnType<typeof statusOf>>;
const statusOf = async (client: Client) => (await client.call("status", {})).result;

async function liveWith(client: Client, adapters: number): Promise<Status> {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    const status = await statusOf(client);
    if (status.live?.weights?.stack.length === adapters) return status;
    if (performance.now() > deadline)
      throw new Failure(
        "DEMO_TIMEOUT",
        `the live engine did not take the folder's ${adapters} adapters within a minute${status.live?.problem ? `: ${status.live.problem.message}` : ""}`,
        {},
      );
    await new Promise((wake) => setTimeout(wake, 10));
  }
}

interface Drawing {
  readonly latents: Float32Array;
  readonly digits: readonly number[];
  readonly png: Buffer;
  /** When the first denoiser call was answered, on this process's clock. */
  readonly firstStepAtMs: number;
}

/** Draws the grid on whatever the live folder stands for, asked for by name: checkpoint and stack travel with the lease. */
async function draw(assets: DemoAssets, client: Client): Promise<Drawing> {
  const { description, classifier } = assets;
  const { live } = await statusOf(client);
  if (!live?.weights) throw new Failure("DEMO_SIDECAR", "the live engine is not up", {});
  const stack = live.weights.stack.map(({ sha256, strength }) => ({ adapter: sha256, strength }));
  const { result: prepared } = await client.call("engine.prepare", {
    checkpoint: live.weights.checkpoint,
    stack,
    precision: "auto",
    host: "auto",
    mode: "comfyui",
    residuals: false,
  });
  let firstStepAtMs = 0;
  try {
    const parts: Float32Array[] = [];
    for (let start = 0; start < description.noise.seeds.length; start += batch) {
      const seeds = description.noise.seeds.slice(start, start + batch);
      const inputsAt = stepInputs(assets, seeds.length);
      const denoise = async (latents: Float32Array, timestep: number): Promise<Float32Array> => {
        const { tensors } = await client.call("engine.step", { lease: prepared.lease }, { tensors: inputsAt(latents, timestep) });
        firstStepAtMs ||= performance.now();
        const [output] = tensors;
        if (!output) throw new Failure("DEMO_SIDECAR", "the step's reply holds no tensor", {});
        return new Float32Array(Uint8Array.from(output.data).buffer);
      };
      parts.push(await sample(description, seeds, denoise));
    }
    const latents = new Float32Array(Buffer.concat(parts.map(asBytes)).buffer.slice(0));
    const pictures = description.noise.seeds.map((_, index) => decode(description, latents, index));
    return { latents, digits: pictures.map((pixels) => classify(classifier, pixels)), png: gridPng(description, pictures), firstStepAtMs };
  } finally {
    await client.call("engine.release", { lease: prepared.lease });
  }
}

interface Timeline {
  readonly settled: number;
  readonly catalogued: number;
  readonly delta: number;
  readonly refit: number;
  readonly first_step: number;
}

/** Copies beside the folder and renames into it, as a download manager does; returns the events that follow, with this process's time of hearing them. */
async function drop(
  client: Client,
  lora: DemoLora,
  folder: string,
): Promise<{ readonly droppedAtMs: number; readonly heard: readonly (HeardEvent & { readonly heardAtMs: number })[] }> {
  const heard: (HeardEvent & { readonly heardAtMs: number })[] = [];
  const stop = client.onEvent((event) => void heard.push({ ...event, heardAtMs: performance.now() }));
  const temp = join(folder, `${lora.name}.part`);
  await copyFile(join(demoFolder, lora.file), temp);
  const droppedAtMs = performance.now();
  await rename(temp, join(folder, "live", `${lora.name}.safetensors`));
  await liveWith(client, 1);
  stop();
  return { droppedAtMs, heard };
}

function timelineOf(droppedAtMs: number, heard: readonly (HeardEvent & { readonly heardAtMs: number })[], firstStepAtMs: number): Timeline {
  const at = (type: string) => (heard.find(({ event }) => event.type === type)?.heardAtMs ?? Number.NaN) - droppedAtMs;
  return {
    settled: at("arrival.settled"),
    catalogued: at("catalog.changed"),
    delta: at("delta.ready"),
    refit: at("refit.committed"),
    first_step: firstStepAtMs - droppedAtMs,
  };
}

function counted(digits: readonly number[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const digit of digits) counts[digit] = (counts[digit] ?? 0) + 1;
  return counts;
}

const sevens = (digits: readonly number[]) => digits.filter((digit) => digit === 7).length / digits.length;
const sameBits = (a: Float32Array, b: Float32Array) => Buffer.compare(Buffer.from(a.buffer), Buffer.from(b.buffer)) === 0;

async function runDemo(
  flags: DemoFlags,
  say: (line: string) => void,
): Promise<{ readonly report: Record<string, unknown>; readonly running: Running }> {
  const out = resolve(flags.out);
  await checkOutputFolder({
    out,
    option: "--out",
    code: "CLI_ARGUMENTS",
    inputs: [{ what: "the demo's model", path: demoFolder }],
    isOurs: (names) => names.includes(marker),
  });
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  await writeFile(
    join(out, marker),
    "The demo of Refit Sidecar made this folder and empties it when it runs again. Keep nothing of yours here.\n",
  );
  for (const name of ["checkpoints", "loras", "live"]) await mkdir(join(out, name), { recursive: true });
  const assets = await readDemoAssets();
  const { description } = assets;
  await copyFile(join(demoFolder, description.checkpoint.file), join(out, "checkpoints", description.checkpoint.file));
  const lora = description.loras.find(({ name }) => name === "only-sevens") ?? description.loras[0];
  if (!lora) throw new Failure("DEMO_ASSETS", "demo.json lists no LoRA; restore sidecar/demo from the repository", {});
  say("starting the sidecar on empty folders");
  const running = await startServe(out);
  const { client } = running;
  const before = await liveWith(client, 0);
  const plain = await draw(assets, client);
  say(`drew ${plain.digits.length} pictures with the checkpoint alone: ${(sevens(plain.digits) * 100).toFixed(0)} % sevens`);
  const { droppedAtMs, heard } = await drop(client, lora, out);
  const changed = await draw(assets, client);
  const after = await statusOf(client);
  const timeline = timelineOf(droppedAtMs, heard, changed.firstStepAtMs);
  say(`dropped ${lora.name} (${lora.effect}) into the live folder; ms since it arrived:`);
  for (const [name, ms] of Object.entries(timeline)) say(`  ${name.replace("_", " ").padEnd(11)} ${Number(ms).toFixed(1).padStart(8)}`);
  say(`the same seeds now give ${(sevens(changed.digits) * 100).toFixed(0)} % sevens, on the same engine in the same process`);
  await rm(join(out, "live", `${lora.name}.safetensors`));
  await liveWith(client, 0);
  const restored = await draw(assets, client);
  const identical = sameBits(plain.latents, restored.latents);
  say(`removed it: the first pictures come back ${identical ? "bit for bit" : "DIFFERENT"}`);
  const pictures: string[] = [];
  for (const [name, drawing] of [
    ["before", plain],
    ["after", changed],
    ["restored", restored],
  ] as const) {
    pictures.push(join(out, `${name}.png`));
    await replaceFile(join(out, `${name}.png`), (handle) => handle.writeFile(drawing.png));
  }
  const ok =
    identical &&
    !sameBits(plain.latents, changed.latents) &&
    sevens(changed.digits) >= description.promisedSevens &&
    sameProcess(before, after);
  const report = {
    ok,
    timeline_ms: timeline,
    changed: !sameBits(plain.latents, changed.latents),
    restored_bit_identical: identical,
    labels: { before: counted(plain.digits), after: counted(changed.digits) },
    share_of_sevens: { before: sevens(plain.digits), after: sevens(changed.digits) },
    host_pid: hostPid(after),
    engine_builds: after.totals.engineBuilds,
    session_loads: after.totals.sessionLoads,
    same_host_engine_and_session: sameProcess(before, after),
    pictures,
  };
  return { report, running };
}

const hostPid = (status: Status) => status.hosts.find((host) => host.pid !== null)?.pid ?? null;

/** The swap was a refit: no new process, no new engine, no new session. */
function sameProcess(before: Status, after: Status): boolean {
  return (
    hostPid(before) === hostPid(after) &&
    before.totals.engineBuilds === after.totals.engineBuilds &&
    before.totals.sessionLoads === after.totals.sessionLoads
  );
}

export function addDemo(program: Command, done: (code: number) => void): void {
  program
    .command("demo")
    .description("draw pictures, drop a LoRA into the live folder, draw the same seeds again, remove it")
    .option("--out <dir>", "folder for the demo's folders and pictures; one that an earlier demo made is replaced", "demo-out")
    .option("--keep", "leave the sidecar running and print how to connect")
    .option("--json", "print one JSON object as the last line")
    .action(async (flags: DemoFlags) => {
      const json = flags.json === true;
      const say = (line: string) => (json ? process.stderr : process.stdout).write(`${line}\n`);
      const { report, running } = await runDemo(flags, say);
      for (const path of report["pictures"] as readonly string[]) say(`  ${path}`);
      if (flags.keep === true) {
        say(
          `the sidecar is still running: ${running.url} (tokens in ${join(running.dataDir, "sidecar.json")}); drop files into ${join(resolve(flags.out), "live")}; Ctrl-C ends it`,
        );
        if (json) console.log(JSON.stringify(report));
        await new Promise((stop) => void running.child.once("exit", stop));
      } else {
        await running.client.close();
        await endServe(running.child);
        if (json) console.log(JSON.stringify(report));
      }
      done(report["ok"] === true ? exitCode.ok : exitCode.failed);
    });
}

// Attacks that need the whole sidecar: hostile things in watched folders, paths where ids belong, a read token on calls that change something. Each is tried on `serve` itself; none may be
// accepted, nothing may leak, and an honest client is served at the end.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { wireMethods } from "../../protocol/src/index.ts";
import { connect, readDiscovery } from "../../sidecar/src/client/index.ts";
import type { Client } from "../../sidecar/src/client/index.ts";
import { demoCheckpoint, demoLora, idOf, output, startBench, until, type Bench } from "../sidecar/pipeline/harness.ts";
import { record } from "../record.ts";

const posix = process.platform !== "win32";
let bench: Bench;
let reader: Client;
let outside: string;
let tried = 0;
let accepted = 0;

const tokens = () => JSON.parse(readFileSync(join(bench.dataDir, "sidecar.json"), "utf8")) as { token: string; read_token: string };

/** `work` has to fail; its failure comes back. */
async function refused(what: string, work: () => Promise<unknown>): Promise<{ readonly code: string; readonly message: string }> {
  tried += 1;
  const outcome = await work().then(
    () => null,
    (error: unknown) => error as { code: string; message: string },
  );
  if (outcome === null) accepted += 1;
  expect(outcome, what).not.toBeNull();
  return outcome ?? { code: "", message: "" };
}

const hostile = ["zero", "urandom", "pipe", "socket", "loop", "folder", "nothing", "passwd", "memory"].map((name) => `${name}.safetensors`);

beforeAll(async () => {
  bench = await startBench({
    fill: (place) => {
      place("checkpoints", "demo.safetensors", demoCheckpoint);
      place("loras", "small.safetensors", demoLora("small"));
    },
    flags: ["--warm", "off", "--spare-host", "off"],
  });
  await idOf(bench, "checkpoint", "demo.safetensors");
  await idOf(bench, "adapter", "small.safetensors");
  outside = join(bench.folder, "outside");
  mkdirSync(outside);
  copyFileSync(demoLora("thick-strokes"), join(outside, "secret.safetensors"));
  reader = await connect({ ...(await readDiscovery(bench.dataDir)), token: tokens().read_token }, "a reader");
}, 60_000);
afterAll(async () => {
  await reader.close();
  await bench.close();
  console.log(`intruders: ${tried} tried, ${accepted} accepted`);
  if (process.env["REFIT_RECORD"] === "1") {
    record("intruders", {
      promise:
        "Nothing hostile gets in by a watched folder or a call: devices, pipes, sockets, loops and links to them, shards that point outside, paths for ids, every changing call with the read token",
      figure: `${tried} attacks on a whole sidecar, ${accepted} accepted; no path, token or segment in an answer or in the log`,
      test: "test/hostile/intruders.test.ts",
    });
  }
});

it("devices, pipes, sockets, loops and links to them are no models, and stop nothing", { timeout: 60_000 }, async ({ skip }) => {
  if (!posix) skip("Windows has no such files");
  const loras = bench.path("loras", "");
  symlinkSync("/dev/zero", join(loras, "zero.safetensors"));
  symlinkSync("/dev/urandom", join(loras, "urandom.safetensors"));
  execFileSync("mkfifo", [join(loras, "pipe.safetensors")]);
  const server = createServer().listen(join(bench.folder, "s"));
  symlinkSync(join(bench.folder, "s"), join(loras, "socket.safetensors"));
  symlinkSync("loop.safetensors", join(loras, "loop.safetensors"));
  symlinkSync(outside, join(loras, "folder.safetensors"));
  symlinkSync("/nowhere", join(loras, "nothing.safetensors"));
  symlinkSync("/etc/passwd", join(loras, "passwd.safetensors"));
  symlinkSync("/proc/self/mem", join(loras, "memory.safetensors"));
  // A file that comes after them is taken: nobody hangs on one of them.
  bench.place("loras", "after.safetensors", demoLora("small"));
  await idOf(bench, "adapter", "after.safetensors");
  const entries = async () => (await bench.client.call("catalog.list", {})).result.entries;
  for (const name of hostile) {
    tried += 1;
    const entry = (await entries()).find((other) => other.name === name);
    const usable = entry !== undefined && entry.problem === null;
    if (usable) accepted += 1;
    expect(usable, name).toBe(false);
  }
  server.close();
});

it("a list of shards cannot name files outside its folder", { timeout: 60_000 }, async () => {
  for (const [index, target] of [
    "../outside/secret.safetensors",
    join(outside, "secret.safetensors"),
    "..\\outside\\secret.safetensors",
    "./../outside/secret.safetensors",
  ].entries()) {
    const name = `model-${index}.safetensors.index.json`;
    writeFileSync(
      bench.path("checkpoints", name),
      JSON.stringify({ metadata: {}, weight_map: { "model.diffusion_model.input_blocks.0.0.weight": target } }),
    );
  }
  bench.place("checkpoints", "later.safetensors", demoCheckpoint);
  await idOf(bench, "checkpoint", "later.safetensors");
  const { result } = await bench.client.call("catalog.list", { kind: "checkpoint" });
  for (const entry of result.entries.filter(({ name }) => name.startsWith("model-"))) expect(entry.problem).not.toBeNull();
  tried += 4;
  const wrong = result.entries.filter(({ name, problem }) => name.startsWith("model-") && problem === null).length;
  accepted += wrong;
  expect(wrong).toBe(0);
});

it("a path is no id, wherever an id belongs", { timeout: 60_000 }, async () => {
  const checkpoint = await idOf(bench, "checkpoint", "demo.safetensors");
  const wanted = {
    checkpoint,
    stack: [] as { adapter: string; strength: number }[],
    precision: "auto",
    host: "auto",
    mode: "comfyui",
    residuals: false,
  } as const;
  const secret = join(outside, "secret.safetensors");
  for (const path of [
    secret,
    `file://${secret}`,
    "../outside/secret.safetensors",
    "..\\outside\\secret.safetensors",
    "\\\\server\\share\\x.safetensors",
    "/dev/zero",
    "\u0000",
    "small.safetensors\u0000",
  ]) {
    const failures = [
      await refused(`checkpoint ${path}`, () => bench.client.call("engine.prepare", { ...wanted, checkpoint: path })),
      await refused(`adapter ${path}`, () => bench.client.call("engine.prepare", { ...wanted, stack: [{ adapter: path, strength: 1 }] })),
      await refused(`entry ${path}`, () => bench.client.call("catalog.get", { id: path })),
      await refused(`engine ${path}`, () => bench.client.call("engine.refit", { engine: path })),
      await refused(`folder ${path}`, () => bench.client.call("folders.remove", { folder: path })),
    ];
    for (const { message } of failures) expect(message).not.toContain(outside);
  }
  await refused("a whole disk", () => bench.client.call("folders.add", { path: "/", kind: "adapters" }));
  await refused("a file for a folder", () => bench.client.call("folders.add", { path: secret, kind: "adapters" }));
  await refused("no such folder", () => bench.client.call("folders.add", { path: join(outside, "none"), kind: "adapters" }));
});

it("a read token changes nothing: every call that could is refused", { timeout: 60_000 }, async () => {
  const changing = Object.entries(wireMethods)
    .filter(([, { role }]) => role === "control")
    .map(([name]) => name as keyof typeof wireMethods);
  expect(changing.length).toBeGreaterThan(10);
  for (const name of changing)
    expect((await refused(name, () => (reader.call as (method: string, params: object) => Promise<unknown>)(name, {}))).code, name).toBe(
      "WIRE_ROLE",
    );
});

it("said no path, token or segment to anybody, and still serves", { timeout: 60_000 }, async () => {
  const { token, read_token: readToken } = tokens();
  const lines = await until("log lines", () => (bench.logged.length > 0 ? bench.logged : null));
  const said = [...lines, ...bench.heard.map((event) => JSON.stringify(event))].join("\n");
  for (const secret of [token, readToken, bench.folder, outside])
    expect(said.includes(secret), `the log or an event holds ${secret === token || secret === readToken ? "a token" : "a path"}`).toBe(
      false,
    );
  expect(said).not.toMatch(/refit-sidecar-\d+-/);
  const fresh = await output(bench, await idOf(bench, "checkpoint", "demo.safetensors"), [
    { adapter: await idOf(bench, "adapter", "small.safetensors"), strength: 1 },
  ]);
  expect(fresh.length).toBeGreaterThan(0);
  expect(readFileSync(join(outside, "secret.safetensors")).equals(readFileSync(demoLora("thick-strokes")))).toBe(true);
});

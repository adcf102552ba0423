#!/usr/bin/env node
// What the plugin and the transport add to one denoiser step, compute excluded, at SDXL 1024 latents, batch 2, fp16 (262 KB each way): from ComfyUI's tensors to the tensor
// that its sampler gets back, conditioning kept, on the real wire server with a backend that gives the sample back. Beside it, in turns of the same run, the raw floor:
// the same bytes through a bare ws echo server and the same Python WebSocket library.
//   node bench/plugin-step.mjs [--rounds 600] [--batch 20]
// Needs no ComfyUI (its modules are stand-ins here), but the tests' Python with torch. The numbers lie when other processes use the cores: see `load` in the result.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { WebSocketServer } from "ws";
import { testPython } from "../tools/python-env.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const { values } = parseArgs({ options: { rounds: { type: "string", default: "600" }, batch: { type: "string", default: "20" } } });

const dataDir = mkdtempSync(join(tmpdir(), "refit-plugin-step-"));
const sidecar = spawn(process.execPath, [join(root, "test/sidecar/wire/serve-fake.mjs"), dataDir], { stdio: ["pipe", "pipe", "inherit"] });
await new Promise((resolve) => sidecar.stdout.once("data", resolve));

const echo = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false, maxPayload: 2 ** 28 });
echo.on("connection", (socket) => socket.on("message", (data) => socket.send(data)));
await new Promise((resolve) => echo.once("listening", resolve));

const client = spawn(
  testPython(root),
  [join(here, "plugin-step.py"), dataDir, `ws://127.0.0.1:${echo.address().port}/`, values.rounds, values.batch],
  { stdio: ["ignore", "pipe", "inherit"] },
);
let output = "";
client.stdout.setEncoding("utf8");
client.stdout.on("data", (text) => (output += text));
const status = await new Promise((resolve) => client.once("close", resolve));
sidecar.stdin.end();
echo.close();
for (const socket of echo.clients) socket.terminate();
await new Promise((resolve) => sidecar.once("close", resolve));
rmSync(dataDir, { recursive: true, force: true });

if (status !== 0) {
  console.error("refit-sidecar: the client of the benchmark failed");
  process.exitCode = 1;
} else {
  const { ways, bytes, python, torch } = JSON.parse(output.trim().split("\n").at(-1));
  for (const [way, { p50, p99 }] of Object.entries(ways))
    console.log(`${way.padEnd(18)} p50 ${p50.toFixed(3)} ms  p99 ${p99.toFixed(3)} ms`);
  const machine = `${cpus().length} x ${cpus()[0]?.model ?? "unknown"}, Node ${process.versions.node}, Python ${python}, torch ${torch}, load ${loadavg()[0].toFixed(1)}`;
  const peer = { name: "raw WebSocket echo of the same bytes", value: ways["raw echo"].p50 };
  const results = [
    { name: `plugin and transport per step, ${bytes} bytes each way, p50`, value: ways["plugin step"].p50, unit: "ms", peer },
    {
      name: `plugin and transport per step, ${bytes} bytes each way, p99`,
      value: ways["plugin step"].p99,
      unit: "ms",
      peer: { ...peer, value: ways["raw echo"].p99 },
    },
  ];
  console.log(JSON.stringify({ bench: "plugin-step", machine, results }));
}

#!/usr/bin/env node
// What plugin client and wire cost per step, compute excluded: the real client and the real server on a backend that gives the sample back,
// beside the raw floor in the same run: the same bytes through the same WebSocket library (its blocking client) and a bare ws echo server.
//   node bench/wire-echo.mjs [--rounds 200] [--batch 20]
// Rounds of the ways alternate, so that noise hits all alike. The numbers lie when other processes use the cores: see `load` in the result.
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
const { values } = parseArgs({ options: { rounds: { type: "string", default: "200" }, batch: { type: "string", default: "20" } } });

const dataDir = mkdtempSync(join(tmpdir(), "refit-wire-echo-"));
const sidecar = spawn(process.execPath, [join(root, "test/sidecar/wire/serve-fake.mjs"), dataDir], { stdio: ["pipe", "pipe", "inherit"] });
await new Promise((resolve) => sidecar.stdout.once("data", resolve));

// The floor has this process's event loop to itself.
const echo = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false, maxPayload: 2 ** 28 });
echo.on("connection", (socket) => socket.on("message", (data) => socket.send(data)));
await new Promise((resolve) => echo.once("listening", resolve));

const client = spawn(
  testPython(root),
  [join(here, "wire-echo.py"), dataDir, `ws://127.0.0.1:${echo.address().port}/`, values.rounds, values.batch],
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
  const measured = JSON.parse(output.trim().split("\n").at(-1));
  for (const { bytes, way, p50, p99 } of measured.rows)
    console.log(`${String(bytes).padStart(8)} bytes each way  ${way.padEnd(22)} p50 ${p50.toFixed(3)} ms  p99 ${p99.toFixed(3)} ms`);
  const of = (bytes, way) => measured.rows.find((row) => row.bytes === bytes && row.way === way).p50;
  const results = measured.sizes.flatMap((bytes) =>
    ["segments", "frames"].map((way) => ({
      name: `step over ${way}, ${bytes} bytes each way, p50`,
      value: of(bytes, way),
      unit: "ms",
      peer: { name: `raw echo, websockets ${measured.websockets} and ws`, value: of(bytes, "raw echo") },
    })),
  );
  const machine = `${cpus().length} x ${cpus()[0]?.model ?? "unknown"}, Node ${process.versions.node}, Python ${measured.python}, load ${loadavg()[0].toFixed(1)}`;
  console.log(JSON.stringify({ bench: "wire-echo", machine, results }));
}

#!/usr/bin/env node
// What 108 MB of ControlNet residuals (SDXL at 1024², batch 2, fp16) cost one denoiser step on their way, compute excluded: from the plugin's tensors over the client's segment, the real wire
// server and the real host connection to tensors in a Python engine host that does nothing with them. Two ways in turns of one run: read by the sidecar and sent through the host's pipe,
// and left in the segment for the host to read. Beside them the same step without residuals.
//   npm run bench -- residual-step [--rounds 20]
// Needs the tests' Python with torch. The numbers lie when other processes use the cores: see `load` in the result.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Failure } from "../sidecar/dist/src/failure/index.js";
import { startHost } from "../sidecar/dist/src/host/index.js";
import { createLog, createMetrics } from "../sidecar/dist/src/telemetry/index.js";
import { startWire } from "../sidecar/dist/src/wire/index.js";
import { createFakeBackend } from "../test/sidecar/wire/fake-backend.mjs";
import { testPython } from "../tools/python-env.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const { values } = parseArgs({ options: { rounds: { type: "string", default: "20" } } });
const python = testPython(root);
const script = join(here, "residual-step.py");

const dataDir = mkdtempSync(join(tmpdir(), "refit-residual-step-"));
const backend = createFakeBackend(Failure);
let folder = null;
const hosts = new Map();
backend.step = async ({ lease, inputs }, { signal }) => {
  const host = hosts.get(backend.leases.get(lease));
  const { ms, tensors } = await host.call("step", { engine: "nothing", generation: 1 }, { tensors: inputs, signal });
  return { ms: { queue: 0, run: ms }, outputs: tensors };
};
const server = await startWire({
  backend,
  dataDir,
  version: "0",
  metrics: createMetrics(),
  log: createLog("warn", (line) => process.stderr.write(line)),
  onSegmentFolder: (made) => void (folder = made),
  options: {
    bind: "127.0.0.1",
    port: 0,
    tlsCert: null,
    tlsKey: null,
    behindProxy: false,
    allowHosts: [],
    allowOrigins: [],
    maxClients: 16,
  },
});
for (const [engine, segmentFolder] of [
  ["e-pipe", null],
  ["e-place", folder],
])
  hosts.set(engine, await startHost({ kind: engine, command: python, args: [script, "host"] }, { segmentFolder }));
if (hosts.get("e-place").about.segments !== true) throw new Error("the host reads no segments on this system: there is nothing to compare");

const client = spawn(python, [script, "client", dataDir, values.rounds], { stdio: ["ignore", "pipe", "inherit"] });
let output = "";
client.stdout.setEncoding("utf8");
client.stdout.on("data", (text) => (output += text));
const status = await new Promise((resolve) => client.once("close", resolve));
await Promise.all([...hosts.values()].map((host) => host.close()));
await server.close();
rmSync(dataDir, { recursive: true, force: true });

if (status !== 0) {
  console.error("refit-sidecar: the client of the benchmark failed");
  process.exitCode = 1;
} else {
  const { medians, bytes, python: version, torch } = JSON.parse(output.trim().split("\n").at(-1));
  for (const [way, ms] of Object.entries(medians)) console.log(`${way.padEnd(16)} ${ms.toFixed(1)} ms`);
  const machine = `${cpus().length} x ${cpus()[0]?.model ?? "unknown"}, Node ${process.versions.node}, Python ${version}, torch ${torch}, load ${loadavg()[0].toFixed(1)}`;
  const cost = (way) => Number((medians[`${way} with`] - medians[`${way} without`]).toFixed(2));
  console.log(
    JSON.stringify({
      bench: "residual-step",
      machine,
      results: [
        {
          name: `step with ${bytes} bytes of residuals, read by the host, median`,
          value: medians["place with"],
          unit: "ms",
          peer: { name: "through the pipe", value: medians["pipe with"] },
        },
        {
          name: "what the residuals add to the step without them",
          value: cost("place"),
          unit: "ms",
          peer: { name: "through the pipe", value: cost("pipe") },
        },
      ],
    }),
  );
}

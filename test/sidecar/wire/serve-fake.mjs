#!/usr/bin/env node
// The real wire server (from the build) on the fake backend, as a process: for the Python client's tests and the wire's benchmark.
// usage: serve-fake.mjs DATA_DIR [OPTIONS as JSON]   Prints one line of JSON when it listens; ends when its stdin ends.
import { Failure } from "../../../sidecar/dist/src/failure/index.js";
import { createLog, createMetrics } from "../../../sidecar/dist/src/telemetry/index.js";
import { startWire } from "../../../sidecar/dist/src/wire/index.js";
import { createFakeBackend } from "./fake-backend.mjs";

const dataDir = process.argv[2];
if (!dataDir) throw new Error("usage: serve-fake.mjs DATA_DIR");
const backend = createFakeBackend(Failure);
const server = await startWire({
  backend,
  dataDir,
  version: "9.9.9",
  metrics: createMetrics(),
  log: createLog("warn", (line) => process.stderr.write(line)),
  options: {
    bind: "127.0.0.1",
    port: 0,
    tlsCert: null,
    tlsKey: null,
    behindProxy: false,
    allowHosts: [],
    allowOrigins: [],
    maxClients: 512,
    ...JSON.parse(process.argv[3] ?? "{}"),
  },
});
process.stdout.write(`${JSON.stringify({ url: server.url, pid: process.pid })}\n`);
process.stdin.setEncoding("utf8");
let line = "";
process.stdin.on("data", (text) => {
  // Each line of JSON is an event that the backend emits.
  line += text;
  for (let end = line.indexOf("\n"); end >= 0; end = line.indexOf("\n")) {
    const event = line.slice(0, end).trim();
    line = line.slice(end + 1);
    if (event) backend.emit(JSON.parse(event));
  }
});
process.stdin.on("end", () => void server.close().then(() => process.exit(0)));

#!/usr/bin/env node
// What the plugin costs ComfyUI at its start (CPU): the import of the plugin inside a ComfyUI that has everything else loaded, and whole starts (`--quick-test-for-ci`) with
// the plugin against starts without it, in turns of the same run. No sidecar is started.
//   COMFYUI_DIR=... COMFYUI_PYTHON=... node bench/plugin-start.mjs [--rounds 5]
// The numbers lie when other processes use the cores, and on the first run after a boot (cold disk): that one is left out.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const here = dirname(fileURLToPath(import.meta.url));
const plugin = join(dirname(here), "plugin");
const { values } = parseArgs({ options: { rounds: { type: "string", default: "5" } } });
const { COMFYUI_DIR: comfyui, COMFYUI_PYTHON: python = "python3" } = process.env;
if (!comfyui) {
  console.error("refit-sidecar: this benchmark needs COMFYUI_DIR (a ComfyUI checkout) and COMFYUI_PYTHON (a Python with its requirements)");
  process.exit(2);
}
const folder = mkdtempSync(join(tmpdir(), "refit-plugin-start-"));
const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];

function run(args) {
  const started = performance.now();
  const result = spawnSync(python, args, {
    cwd: comfyui,
    encoding: "utf8",
    env: { ...process.env, REFIT_SIDECAR: "off", HF_HUB_OFFLINE: "1", PYTHONPATH: comfyui },
  });
  if (result.status !== 0) throw new Error(`ComfyUI ended with ${result.status}: ${result.stderr.slice(-2000)}`);
  return { ms: performance.now() - started, out: result.stdout };
}

try {
  const bases = { with: join(folder, "with"), without: join(folder, "without") };
  for (const base of Object.values(bases))
    for (const name of ["custom_nodes", "models", "input", "output", "temp", "user"]) mkdirSync(join(base, name), { recursive: true });
  symlinkSync(plugin, join(bases.with, "custom_nodes", "refit-sidecar"), "junction");
  const start = (base) => run(["main.py", "--cpu", "--quick-test-for-ci", "--base-directory", base]).ms;
  const starts = { with: [], without: [] };
  const imports = [];
  start(bases.without);
  for (let round = 0; round < Number(values.rounds); round += 1) {
    for (const name of round % 2 === 0 ? ["with", "without"] : ["without", "with"]) starts[name].push(start(bases[name]));
    imports.push(
      Number(
        run([join(here, "plugin-start.py"), plugin, bases.without])
          .out.trim()
          .split("\n")
          .at(-1),
      ),
    );
  }
  const results = [
    { name: "import of the plugin, median", value: Number(median(imports).toFixed(1)), unit: "ms", peer: { name: "target", value: 100 } },
    {
      name: "start of ComfyUI with the plugin, median",
      value: Number(median(starts.with).toFixed(0)),
      unit: "ms",
      peer: { name: "without it", value: Number(median(starts.without).toFixed(0)) },
    },
    {
      name: "delay, difference of medians",
      value: Number((median(starts.with) - median(starts.without)).toFixed(0)),
      unit: "ms",
      peer: { name: "target", value: 200 },
    },
  ];
  for (const { name, value, unit, peer } of results) console.error(`${name}: ${value} ${unit} (${peer.name}: ${peer.value})`);
  console.log(
    JSON.stringify({
      bench: "plugin-start",
      machine: `${cpus().length} x ${cpus()[0]?.model ?? "unknown"}, Node ${process.versions.node}, load ${loadavg()[0].toFixed(1)}`,
      results,
    }),
  );
} finally {
  rmSync(folder, { recursive: true, force: true });
}

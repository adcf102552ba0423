#!/usr/bin/env node
// What another LoRA in the stack adds to the next prompt on a real ComfyUI (CPU, tiny checkpoint): prompts that change the LoRA against prompts that change only the seed,
// on an engine and, in turns of the same run, on ComfyUI's own path. One step each, so that little else is in the time.
//   COMFYUI_DIR=... COMFYUI_PYTHON=... node bench/plugin-swap.mjs [--rounds 12]
// The numbers lie when other processes use the cores: see `load` in the result.
import { spawnSync } from "node:child_process";
import { cpus, loadavg } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { testPython } from "../tools/python-env.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const { values } = parseArgs({ options: { rounds: { type: "string", default: "12" } } });
if (!process.env.COMFYUI_DIR) {
  console.error("refit-sidecar: this benchmark needs COMFYUI_DIR (a ComfyUI checkout) and COMFYUI_PYTHON (a Python with its requirements)");
  process.exit(2);
}
const run = spawnSync(testPython(dirname(here)), [join(here, "plugin-swap.py"), values.rounds], {
  encoding: "utf8",
  stdio: ["ignore", "pipe", "inherit"],
});
if (run.status !== 0) {
  console.error("refit-sidecar: the benchmark failed");
  process.exit(1);
}
const { rows, python, torch } = JSON.parse(run.stdout.trim().split("\n").at(-1));
const added = ({ changed, same }) => Number((changed - same).toFixed(1));
for (const row of rows) {
  const refit = row.refit === undefined ? "" : `, of which refit ${row.refit.toFixed(1)} ms`;
  console.log(
    `${row.layers.padEnd(27)} ${row.way.padEnd(8)} same stack ${row.same.toFixed(1)} ms, another LoRA ${row.changed.toFixed(1)} ms, added ${added(row)} ms${refit} (medians)`,
  );
}
const machine = `${cpus().length} x ${cpus()[0]?.model ?? "unknown"}, Node ${process.versions.node}, Python ${python}, torch ${torch}, load ${loadavg()[0].toFixed(1)}`;
const results = rows
  .filter(({ way }) => way === "engine")
  .map((row) => {
    const own = rows.find(({ way, layers }) => way === "ComfyUI" && layers === row.layers);
    return {
      name: `another LoRA (${row.layers}), added to the next prompt, median`,
      value: added(row),
      unit: "ms",
      peer: { name: "ComfyUI's own path", value: added(own) },
    };
  });
console.log(JSON.stringify({ bench: "plugin-swap", machine, results }));

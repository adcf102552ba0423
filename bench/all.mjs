// `npm run bench -- all`: one JSON of this computer. The rows are those of docs/evidence/benchmark.md: changes of LoRA, strength, stack and checkpoint, step, first picture and memory, by the
// engine hosts that are installed and, in the same run, by PEFT, diffusers and torch.compile on a small model. `parts` has every other benchmark's own result, or why it was left out.
//   npm run bench -- all [--out FILE] [--size small|sd15|sdxl] [--repeats 20] [--only engine,peers,NAME,...]
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { testPython } from "../tools/python-env.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
/** What a part needs beside the build and the tests' Python. */
const needsComfyui = new Set(["plugin-start", "plugin-swap"]);

/** The last line of what a program printed, as JSON; throws with its last words when it failed. */
function lastJson(command, args, options = {}) {
  const ended = spawnSync(command, args, {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    maxBuffer: 1 << 28,
    ...options,
  });
  const lines = (ended.stdout ?? "").trim().split("\n");
  if (ended.status !== 0)
    throw new Error(`ended with ${ended.status}: ${(ended.stderr ?? "").trim().split("\n").at(-1) ?? ""}`.slice(0, 300));
  return JSON.parse(lines.at(-1) ?? "null");
}

export function benchAll(benches, args) {
  const { values } = parseArgs({
    args,
    options: {
      out: { type: "string", default: "bench-all.json" },
      size: { type: "string", default: "small" },
      repeats: { type: "string", default: "20" },
      only: { type: "string" },
    },
  });
  const wanted = values.only === undefined ? null : new Set(values.only.split(","));
  const isWanted = (name) => wanted === null || wanted.has(name);
  const folder = mkdtempSync(join(tmpdir(), "refit-bench-all-"));
  const parts = {};
  const part = (name, work) => {
    if (!isWanted(name)) return null;
    console.error(`bench: ${name}`);
    try {
      return work();
    } catch (error) {
      parts[name] = { leftOut: error.message };
      console.error(`bench: ${name} left out: ${error.message}`);
      return null;
    }
  };
  try {
    const engine = part("engine", () => {
      const out = join(folder, "engine.json");
      lastJson(process.execPath, [
        "sidecar/bin/refit-sidecar.mjs",
        "bench",
        "--json",
        "--size",
        values.size,
        "--repeats",
        values.repeats,
        "--out",
        out,
      ]);
      return JSON.parse(readFileSync(out, "utf8"));
    });
    const peers = part("peers", () => {
      const python = testPython(root);
      const options = JSON.stringify({ models: ["sdxl"] });
      lastJson(python, [
        "-m",
        "bench.gpu",
        "machine",
        "module",
        "--tiny",
        "--device",
        "cpu",
        "--repeats",
        values.repeats,
        "--timeout",
        "240",
        "--folder",
        folder,
        "--options",
        options,
      ]);
      return JSON.parse(readFileSync(join(folder, "summary.json"), "utf8"));
    });
    for (const name of benches)
      part(name, () => {
        if (needsComfyui.has(name) && !process.env.COMFYUI_DIR) throw new Error("needs COMFYUI_DIR and COMFYUI_PYTHON");
        parts[name] = lastJson(process.execPath, [join("bench", `${name}.mjs`)]);
        return null;
      });
    const file = {
      format: "refit-bench",
      version: 1,
      date: new Date().toISOString().slice(0, 10),
      command: `npm run bench -- all --size ${values.size} --repeats ${values.repeats}`,
      computer: { ...peers?.computer, ...engine?.computer },
      versions: { ...peers?.versions, ...engine?.versions },
      rows: [...(engine?.rows ?? []), ...(peers?.rows ?? [])],
      parts,
    };
    const out = resolve(values.out);
    writeFileSync(out, `${JSON.stringify(file, null, 1)}\n`);
    console.log(JSON.stringify({ bench: "all", out, rows: file.rows.length, parts: Object.keys(parts) }));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

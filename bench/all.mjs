// `npm run bench -- all`: one JSON of this computer. The rows are those of docs/evidence/benchmark.md: changes of LoRA, strength, stack and checkpoint, step, first picture and memory, by the
// engine hosts that are installed and, in the same run, by PEFT, diffusers and torch.compile on a small model. `parts` has every other benchmark's own result, or why it was left out.
//   npm run bench -- all [--short] [--out FILE] [--size small|sd15|sdxl] [--repeats 20] [--only engine,peers,NAME,...] [--limit SECONDS] [--resume]
// `--short` takes fewer repeats, for a look in a few minutes. A part that takes longer than `--limit` is ended and left out. The file is written after each part; `--resume` goes on with
// one of the same computer, so a run can be made in pieces. Each part says how long it took and how busy the computer was before it (the load of a minute): timings of a busy one say little.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { testPython } from "../tools/python-env.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
/** Variables without which a part cannot run. */
const needed = {
  "plugin-start": ["COMFYUI_DIR", "COMFYUI_PYTHON"],
  "plugin-swap": ["COMFYUI_DIR", "COMFYUI_PYTHON"],
  "ray-pool": ["REFIT_RAY_PYTHON"],
};
/** What a part is started with in every run: the Python with Ray is no one's default. */
const given = { "ray-pool": () => ["--python", process.env.REFIT_RAY_PYTHON ?? ""] };
/** Enough for a look; the rest keep their own defaults. */
const shortened = {
  "catalog-scan": ["--files", "200", "--payload-mb", "20"],
  "delta-index": ["--runs", "3"],
  "fair-sharing": ["--steps", "30", "--rounds", "1"],
  "merge-bandwidth": ["--ranks", "8,16", "--runs", "3"],
  page: ["--adapters", "1000"],
  "plugin-start": ["--rounds", "2"],
  "plugin-step": ["--rounds", "100"],
  "plugin-swap": ["--rounds", "4"],
  "pool-simulation": ["--devices", "100", "--loras", "1000", "--seconds", "10", "--warm", "5"],
  "ray-pool": ["--nodes", "2", "--clients", "8", "--seconds", "10", "--phases", "local,ray"],
  "refit-plan": ["--rounds", "40"],
  "residual-step": ["--rounds", "5"],
  "step-overhead": ["--graph", "demo", "--pairs", "5"],
  "warm-up": ["--rounds", "1", "--steps", "40"],
  "wire-echo": ["--rounds", "40"],
};

/** The last line of what a program printed, as JSON; throws with its last words when it failed. */
function lastJson(command, args, seconds) {
  const ended = spawnSync(command, args, {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    maxBuffer: 1 << 28,
    timeout: seconds * 1000,
  });
  if (ended.error?.code === "ETIMEDOUT") throw new Error(`took longer than ${seconds} s; give it more by --limit`);
  const said = (ended.stderr ?? "").trim().split("\n");
  if (ended.status !== 0) throw new Error(`ended with ${ended.status ?? ended.signal}: ${said.at(-1)}`.slice(0, 300));
  return JSON.parse((ended.stdout ?? "").trim().split("\n").at(-1) || "null");
}

const node = (file, args, seconds) => lastJson(process.execPath, [file, ...args], seconds);

/** Both write rows in the form of bench/results, to a file. */
const measured = {
  engine({ folder, size, repeats, limit }) {
    const out = join(folder, "engine.json");
    node("sidecar/bin/refit-sidecar.mjs", ["bench", "--json", "--size", size, "--repeats", repeats, "--out", out], limit);
    return JSON.parse(readFileSync(out, "utf8"));
  },
  peers({ folder, repeats, limit }) {
    const where = ["--tiny", "--device", "cpu", "--repeats", repeats, "--folder", folder];
    const bounds = ["--timeout", String(Math.ceil(limit * 0.9)), "--options", JSON.stringify({ models: ["sdxl"] })];
    lastJson(testPython(root), ["-m", "bench.gpu", "machine", "module", ...where, ...bounds], limit);
    const found = JSON.parse(readFileSync(join(folder, "summary.json"), "utf8"));
    // A piece that failed costs a run of bench.gpu its rows, not its exit code.
    if (found.rows.length === 0) {
      const told = readFileSync(join(folder, "results.jsonl"), "utf8").trim().split("\n");
      const failed = told.map((line) => JSON.parse(line).failed).find((why) => why !== undefined);
      throw new Error(failed ?? "it measured nothing");
    }
    return found;
  },
};

const optionsOfAll = {
  out: { type: "string", default: "bench-all.json" },
  size: { type: "string", default: "small" },
  repeats: { type: "string" },
  only: { type: "string" },
  limit: { type: "string", default: "900" },
  short: { type: "boolean", default: false },
  resume: { type: "boolean", default: false },
};

export function benchAll(benches, args) {
  const { values } = parseArgs({ args, options: optionsOfAll });
  const { short, size, resume } = values;
  const limit = Number(values.limit);
  if (!(limit > 0)) throw new Error(`--limit expects seconds, got ${values.limit}`);
  const repeats = values.repeats ?? (short ? "5" : "20");
  const all = [...Object.keys(measured), ...benches];
  const wanted = values.only?.split(",") ?? all;
  const foreign = wanted.filter((name) => !all.includes(name));
  if (foreign.length > 0) throw new Error(`--only expects some of ${all.join(", ")}; got ${foreign.join(", ")}`);
  const out = resolve(values.out);
  const file =
    resume && existsSync(out)
      ? JSON.parse(readFileSync(out, "utf8"))
      : {
          format: "refit-bench",
          version: 1,
          date: new Date().toISOString().slice(0, 10),
          command: `npm run bench -- all${short ? " --short" : ""} --size ${size} --repeats ${repeats}`,
          computer: {},
          versions: {},
          rows: [],
          parts: {},
        };
  const folder = mkdtempSync(join(tmpdir(), "refit-bench-all-"));
  try {
    for (const name of wanted) {
      if (name in file.parts && !("leftOut" in file.parts[name])) continue;
      const began = performance.now();
      const state = { load: Number(loadavg()[0].toFixed(1)) };
      console.error(`bench: ${name} (load ${state.load})`);
      try {
        const lacks = (needed[name] ?? []).filter((variable) => !process.env[variable]);
        if (lacks.length > 0) throw new Error(`needs ${lacks.join(" and ")}`);
        if (name in measured) {
          const { computer, versions, rows } = measured[name]({ folder, size, repeats, limit });
          Object.assign(file.computer, computer);
          Object.assign(file.versions, versions);
          file.rows.push(...rows);
        } else
          state.result = node(join("bench", `${name}.mjs`), [...(given[name]?.() ?? []), ...(short ? (shortened[name] ?? []) : [])], limit);
      } catch (error) {
        state.leftOut = error.message;
        console.error(`bench: ${name} left out: ${error.message}`);
      }
      file.parts[name] = { seconds: Math.round((performance.now() - began) / 1000), ...state };
      writeFileSync(out, `${JSON.stringify(file, null, 1)}\n`);
    }
    const leftOut = Object.keys(file.parts).filter((name) => "leftOut" in file.parts[name]);
    console.log(JSON.stringify({ bench: "all", out, rows: file.rows.length, parts: Object.keys(file.parts), leftOut }));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

// docs/evidence/benchmark.md, its plots and the figures of the README, from the committed runs in bench/results. In: the runs (form: bench/summary.py). Out: files by path.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { bars } from "./bars.mjs";
import { replaceBetween } from "./between.mjs";

/** The phases in the page's order, as a reader calls them. */
const phases = {
  swap: "another LoRA",
  strength: "another strength",
  stack: "a stack of LoRAs",
  back: "back to no LoRA",
  checkpoint: "another checkpoint",
  step: "step",
  first: "first picture or call",
  memory: "memory",
};
/** By whom a figure was reached. */
const makers = {
  refit: "Refit Sidecar",
  comfyui: "ComfyUI",
  peft: "PEFT",
  hotswap: "diffusers hotswap",
  "torch.compile": "torch.compile",
  diffusers: "diffusers",
};

export function readRuns(folder) {
  return readdirSync(folder)
    .filter((file) => file.endsWith(".json"))
    .sort()
    .map((file) => {
      const run = JSON.parse(readFileSync(join(folder, file), "utf8"));
      if (run.format !== "refit-bench" || run.version !== 1) throw new Error(`${file}: expected a run that bench/summary.py wrote`);
      for (const row of run.rows)
        if (!(row.phase in phases) || !(row.by in makers))
          throw new Error(`${file}: no name for ${row.phase} by ${row.by}; add it to benchmark.mjs`);
      return { file, ...run };
    });
}

const number = (value) =>
  value >= 1000 ? Math.round(value).toLocaleString("en-US") : value >= 100 ? String(Math.round(value)) : value.toFixed(1);
const shown = (row, value) => (value === null ? "" : row.unit === "bytes" ? `${(value / 1e9).toFixed(1)} GB` : `${number(value)} ms`);
/** Of fewer repeats a 95th percentile says nothing. */
const fewest = 5;

function table(rows) {
  const lines = rows.map((row) => {
    const adapted = row.layers === undefined ? "" : `${row.layers}${row.rank === undefined ? "" : `, rank ${row.rank}`}`;
    const p95 = row.n < fewest ? "" : shown(row, row.p95);
    return `| ${phases[row.phase]} | ${makers[row.by]} | ${row.how} | ${adapted} | ${shown(row, row.p50)} | ${p95} | ${row.n} |`;
  });
  return `| what | by | how | layers | p50 | p95 | n |\n|---|---|---|---|---:|---:|---:|\n${lines.join("\n")}`;
}

function section(run) {
  const { computer, versions } = run;
  const facts = [
    computer.card ?? computer.processor ?? "processor",
    run.date,
    ...(computer.card === undefined && computer.cores !== undefined ? [`${computer.cores} cores`] : []),
    ...Object.entries(versions).map(([name, version]) => `${name} ${version}`),
  ];
  const order = Object.keys(phases);
  const models = [...new Set(run.rows.map(({ model }) => model))];
  const tables = models.map((model) => {
    const rows = run.rows.filter((row) => row.model === model).sort((a, b) => order.indexOf(a.phase) - order.indexOf(b.phase));
    return `### ${model}, ${run.file.replace(/\.json$/, "")}\n${table(rows)}\n`;
  });
  const name = run.file.replace(/\.json$/, "");
  const head = `## ${name}\n${facts.join(" · ")}\n\nAgain: \`${run.command}\`. Rows: [\`bench/results/${run.file}\`](../../bench/results/${run.file}).\n`;
  return [head, ...tables, ...(run.parts === undefined ? [] : [partsOf(run.parts, name, computer.cores)])].join("\n");
}

const measured = (value, unit) => (unit === "bytes" && value >= 1e6 ? `${(value / 1e6).toFixed(1)} MB` : `${value} ${unit ?? ""}`.trim());

/** What `npm run bench -- all` ran beside its rows: results with the peer of the same run. Those of a part that began on a busy computer stay in the file: they say little. */
function partsOf(parts, name, cores) {
  const rows = Object.entries(parts).flatMap(([part, { result, leftOut, load, seconds }]) => {
    if (leftOut !== undefined) return [`| ${part} | left out: ${leftOut} | | | ${load} |`];
    if (load > cores) return [`| ${part} | ran through in ${seconds} s, on a busy computer | | | ${load} |`];
    return (result?.results ?? []).map((one) => {
      const peer = one.peer === undefined ? "" : `${one.peer.name}: ${measured(one.peer.value, one.peer.unit ?? one.unit)}`;
      return `| ${part} | ${one.name} | ${measured(one.value, one.unit)} | ${peer} | ${load} |`;
    });
  });
  const took = Object.values(parts).reduce((sum, { seconds = 0 }) => sum + seconds, 0);
  return `### Parts, ${name}
The whole took ${Math.round(took / 60)} minutes. *Load* is that of the minute before a part began. Where it was more than the ${cores} cores, what was measured stands in the file alone. Figures of a quiet computer: [figures of the tests](figures.md).

| part | what | measured | beside it | load |
|---|---|---:|---|---:|
${rows.join("\n")}
`;
}

/** The first row that has all of `wanted`; a README that names a figure must find it. */
function pick(runs, wanted) {
  for (const run of runs)
    for (const row of run.rows)
      if (Object.entries(wanted).every(([key, value]) => (value instanceof RegExp ? value.test(row[key]) : row[key] === value)))
        return { run, row };
  throw new Error(`bench/results has no row with ${JSON.stringify(wanted)}`);
}

const inUi = (by, phase) => ({ by, phase, how: /ComfyUI/ });
const inPython = (by, phase, model, how) => ({ by, phase, model, how });

/** Figures beside their peers. Every row: what, and the rows to compare, ours first. Python's rows are those of the models that every way was tried on. */
const headlines = (runs) => {
  const models = new Set(
    runs.flatMap(({ rows }) => rows.filter(({ by, phase }) => by === "hotswap" && phase === "swap").map(({ model }) => model)),
  );
  return [
    ["SDXL in ComfyUI: another LoRA, until the first step", [inUi("refit", "swap"), inUi("comfyui", "swap")]],
    ["SDXL in ComfyUI: one step", [inUi("refit", "step"), inUi("comfyui", "step")]],
    ...[...models].map((model) => [
      `${model} in Python: switch between two LoRAs`,
      [
        inPython("refit", "swap", model, /RefitModule, compiled/),
        inPython("peft", "swap", model, /fuse/),
        inPython("hotswap", "swap", model, /./),
      ],
    ]),
  ];
};

function figures(runs) {
  const lines = headlines(runs).map(([what, wanted]) => {
    const found = wanted.map((one) => pick(runs, one));
    const [own, ...peers] = found;
    return `| ${what} | **${shown(own.row, own.row.p50)}** | ${peers.map(({ row }) => `${makers[row.by]} ${shown(row, row.p50)}`).join(", ")} |`;
  });
  const { run } = pick(runs, headlines(runs)[0][1][0]);
  return `| median on one ${run.computer.card} | Refit Sidecar | beside it |\n|---|---:|---|\n${lines.join("\n")}`;
}

const plots = [
  {
    file: "swap.svg",
    title: "Switch between two LoRAs in Python, SDXL, 722 layers, rank 16 (ms, less is better)",
    rows: [
      inPython("refit", "swap", "SDXL", /RefitModule, compiled/),
      inPython("peft", "swap", "SDXL", /fuse/),
      inPython("hotswap", "swap", "SDXL", /./),
    ],
  },
  {
    file: "step.svg",
    title: "One step in Python, SDXL, batch 2, 1024² (ms, less is better)",
    rows: [
      inPython("refit", "step", "SDXL", /RefitModule, compiled/),
      inPython("torch.compile", "step", "SDXL", /./),
      inPython("diffusers", "step", "SDXL", /./),
      inPython("hotswap", "step", "SDXL", /./),
    ],
  },
  {
    file: "comfyui.svg",
    title: "SDXL in ComfyUI: another LoRA, until the first step (ms, less is better)",
    rows: [inUi("refit", "swap"), inUi("comfyui", "swap")],
  },
];

/** Files by path: the page, the plots, the README with its figures. */
export function benchmarkFiles(root, readme) {
  const all = readRuns(join(root, "bench/results"));
  // What is said in a few words, or drawn, was measured on a card.
  const runs = all.filter(({ computer }) => computer.card !== undefined);
  const files = {};
  for (const { file, title, rows } of plots) {
    const found = rows.map((wanted) => pick(runs, wanted).row);
    files[`docs/evidence/plots/${file}`] = bars(
      title,
      found.map((row) => ({ name: makers[row.by], value: row.p50, label: number(row.p50), own: row.by === "refit" })),
    );
  }
  files["docs/evidence/benchmark.md"] = `# Benchmark
<!-- Generated by \`npm run generate\` from bench/results; edit those, or tools/generate/benchmark.mjs. -->

How long a change of LoRA, strength, stack or checkpoint takes, and a step, beside what others need on the same computer in the same run. p50 is the median, p95 the 95th percentile; it is left out for
fewer than ${fewest} repeats. Weights are random; on a card they are of real size, on a processor the demo's. Lower is better, but for GB/s and throughput.

${plots.map(({ file, title }) => `![${title}](plots/${file})`).join("\n\n")}

## Measure it yourself
\`refit-sidecar bench\` measures your computer in a few minutes and writes one file without names or paths. Please send it with the issue form *benchmark*: rows from RTX cards come from there.
${"`npm run bench -- all`"} measures the sidecar's parts (${"`--short`"} in a few minutes), ${"`python -m bench.gpu`"} the engine and its peers; ${"`python -m bench.summary`"} makes one of the files below from its rows.

${all.map(section).join("\n")}`;
  files["README.md"] = replaceBetween(readme, "figures", figures(runs), "README.md");
  return files;
}

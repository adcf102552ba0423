#!/usr/bin/env node
// `npm run bench` lists the benchmarks; `npm run bench -- NAME [options]` runs one, `npm run bench -- all` makes one JSON of them. Each prints one JSON object as its last line.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { benchAll } from "./all.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const benches = readdirSync(here)
  .filter((file) => file.endsWith(".mjs") && file !== "run.mjs" && file !== "all.mjs")
  .map((file) => file.slice(0, -4))
  .sort();
const [name, ...rest] = process.argv.slice(2);
if (!name) {
  console.log(`benchmarks: ${benches.join(", ")}\nrun one: npm run bench -- NAME\nall, as one JSON: npm run bench -- all`);
} else if (name === "all") {
  try {
    benchAll(benches, rest);
  } catch (error) {
    console.error(`refit-sidecar: ${error.message}`);
    process.exitCode = 2;
  }
} else if (benches.includes(name)) {
  process.exitCode = spawnSync(process.execPath, [join(here, `${name}.mjs`), ...rest], { stdio: "inherit" }).status ?? 1;
} else {
  console.error(`refit-sidecar: no benchmark ${JSON.stringify(name)}; expected one of ${benches.join(", ")}`);
  process.exitCode = 2;
}

#!/usr/bin/env node
// `npm run bench` lists the benchmarks; `npm run bench -- NAME [options]` runs one. Each prints one JSON object as its last line.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const benches = readdirSync(here)
  .filter((file) => file.endsWith(".mjs") && file !== "run.mjs")
  .map((file) => file.slice(0, -4))
  .sort();
const [name, ...rest] = process.argv.slice(2);
if (!name) {
  console.log(`benchmarks: ${benches.join(", ")}\nrun one: npm run bench -- NAME`);
} else if (benches.includes(name)) {
  process.exitCode = spawnSync(process.execPath, [join(here, `${name}.mjs`), ...rest], { stdio: "inherit" }).status ?? 1;
} else {
  console.error(`refit-sidecar: no benchmark ${JSON.stringify(name)}; expected one of ${benches.join(", ")}`);
  process.exitCode = 2;
}

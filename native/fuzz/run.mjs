#!/usr/bin/env node
// The long fuzz run: every target for 30 minutes (`--minutes N` for less), two at a time, and its result in last-result.json beside this file.
// Needs `npm run build`; with clang the C++ targets run under libFuzzer, else under g++'s sanitizers with our own driver. Set REFIT_TEST_PYTHON to have the
// reference Python package asked as well.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(dirname(here));
const minutes = Number(process.argv[process.argv.indexOf("--minutes") + 1]) || 30;
const seconds = String(Math.round(minutes * 60));

/** What was tested, so that a result can be told from one of older sources. */
function sourceHash() {
  const hash = createHash("sha256");
  const files = readdirSync(join(root, "native/src"), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  for (const path of files.map((entry) => join(entry.parentPath, entry.name)).sort()) hash.update(readFileSync(path));
  return hash.digest("hex");
}

/** Runs a script and resolves to its status and output. @param {string[]} args @param {Record<string, string>} [environment] */
function node(args, environment = {}) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, {
      cwd: root,
      env: { ...process.env, ...environment },
      stdio: ["ignore", "pipe", "inherit"],
    });
    let output = "";
    child.stdout.on("data", (data) => (output += data));
    child.on("close", (status) => resolve({ status, output }));
  });
}

const targets = {
  async parse_header() {
    const { status, output } = await node(["tools/test-leak.mjs", "--fuzz", "parse_header", "--seconds", seconds]);
    return { ...JSON.parse(output.trim().split("\n").at(-1)), failed: status !== 0 };
  },
  async kernels() {
    const { status, output } = await node(["tools/test-leak.mjs", "--fuzz", "kernels", "--seconds", seconds]);
    return { ...JSON.parse(output.trim().split("\n").at(-1)), failed: status !== 0 };
  },
  async headers_across_languages() {
    const { status, output } = await node(["native/fuzz/differential.mjs", seconds, String(Date.now() % 1e9)]);
    const { cases, accepted, askedPython, disagreements } = JSON.parse(output.trim().split("\n").at(-1));
    return {
      engine: "differential: C++, TypeScript, reference Python package",
      seconds: Number(seconds),
      runs: cases,
      accepted,
      askedPython,
      findings: disagreements.length,
      failed: status !== 0,
    };
  },
  async adapter_reader() {
    const { status, output } = await node(["test/hostile/fuzz-adapter.mjs", seconds, String(Date.now() % 1e9)]);
    const { cases, findings, ...counts } = JSON.parse(output.trim().split("\n").at(-1));
    return {
      engine: "mutated adapters through recognition, one in 50 through files and deltas",
      seconds: Number(seconds),
      runs: cases,
      ...counts,
      findings: findings.length,
      failed: status !== 0,
    };
  },
};

const results = {};
const waiting = Object.entries(targets);
async function lane() {
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
    const [name, run] = next;
    console.error(`${name}: ${minutes} minutes`);
    results[name] = await run();
    console.error(`${name}: ${JSON.stringify(results[name])}`);
  }
}
await Promise.all([lane(), lane()]);
const clean = Object.values(results).every(({ findings, failed }) => findings === 0 && !failed);
const summary = {
  date: new Date().toISOString(),
  machine: `${cpus()[0]?.model.trim()} x ${cpus().length}, ${process.platform} ${release()}, Node ${process.version}`,
  minutesEach: minutes,
  sources: sourceHash(),
  clean,
  results,
};
writeFileSync(join(here, "last-result.json"), `${JSON.stringify(summary, null, 2)}\n`);
process.exitCode = clean ? 0 : 1;

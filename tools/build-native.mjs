#!/usr/bin/env node
// Builds the C++ addon in native/ when its sources, or the platform, changed since the last build. Prints one line. A machine that cannot build it gets
// the steps that would help, and the TypeScript fallback is used: this script never fails the build. `--json` keeps stdout empty; `--force` builds anyway.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = join(root, "native");
const stampFile = join(folder, "build", "refit-stamp");
const addonFile = join(folder, "build", "Release", "refit_native.node");
const require = createRequire(join(folder, "package.json"));
const quiet = process.argv.includes("--json");
const say = (line) => (quiet ? process.stderr : process.stdout).write(`${line}\n`);

/** N-API is the same for every Node, so the stamp holds the platform and not the Node version. */
function sourceStamp() {
  const hash = createHash("sha256").update(`${process.platform}-${process.arch}\n`);
  const files = [join(folder, "binding.gyp"), fileURLToPath(import.meta.url)];
  for (const entry of readdirSync(join(folder, "src"), { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) files.push(join(entry.parentPath, entry.name));
  }
  for (const file of files.sort()) hash.update(readFileSync(file));
  hash.update(JSON.stringify(require("node-addon-api/package.json").version));
  return hash.digest("hex");
}

/**
 * Where node-gyp finds headers without a download: beside this Node, else a folder made from the npm package node-api-headers with the two settings files
 * that node-gyp reads. Null on Windows without headers, where node-gyp needs node.lib too and fetches both itself.
 */
function findHeaders() {
  const prefix = dirname(dirname(process.execPath));
  for (const candidate of [prefix, dirname(process.execPath)]) {
    const include = join(candidate, "include", "node");
    if (["node_api.h", "common.gypi"].every((file) => existsSync(join(include, file)))) return candidate;
  }
  return process.platform === "win32" ? null : makeHeaderFolder();
}

function makeHeaderFolder() {
  const made = join(folder, ".cache", "headers");
  const include = join(made, "include", "node");
  mkdirSync(include, { recursive: true });
  const source = require("node-api-headers").include_dir;
  for (const file of readdirSync(source)) copyFileSync(join(source, file), join(include, file));
  const settings = {
    target_defaults: {
      default_configuration: "Release",
      configurations: { Release: {}, Debug: {} },
      cflags: ["-fPIC", "-pthread"],
      ldflags: ["-pthread"],
    },
  };
  writeFileSync(join(include, "common.gypi"), JSON.stringify(settings));
  writeFileSync(join(include, "config.gypi"), JSON.stringify({ target_defaults: {}, variables: { node_shared: "false" } }));
  return made;
}

function compile() {
  const headers = findHeaders();
  const args = [
    require.resolve("node-gyp/bin/node-gyp.js"),
    "rebuild",
    "--loglevel=error",
    "--jobs=max",
    ...(headers === null ? [] : [`--nodedir=${headers}`]),
  ];
  const result = spawnSync(process.execPath, args, { cwd: folder, encoding: "utf8", maxBuffer: 1 << 26 });
  if (result.status === 0 && existsSync(addonFile)) return null;
  return result.error?.message ?? `${result.stdout}\n${result.stderr}`;
}

/** The lines a person needs from a long build log. */
function explain(log) {
  const lines = log.split("\n");
  const errors = lines.filter((line) => /\berror\b|ERR!.*(find|not found|fail)/i.test(line)).slice(0, 5);
  const steps = {
    win32: "install Python 3 and Visual Studio Build Tools with the C++ workload",
    darwin: "run `xcode-select --install`",
    linux: "install Python 3, make and g++ 11 or newer (Debian and Ubuntu: `apt-get install python3 make g++`)",
  };
  return [
    ...(errors.length > 0 ? errors : lines.slice(-5)),
    `To have it: ${steps[process.platform] ?? "install Python 3 and a C++20 compiler"}, then run \`npm run build\` again.`,
  ];
}

function main() {
  if (process.env.REFIT_NATIVE === "off") return say("native: REFIT_NATIVE=off, the TypeScript fallback is used");
  const stamp = sourceStamp();
  const upToDate = existsSync(addonFile) && existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp;
  if (upToDate && !process.argv.includes("--force")) return say("native: up to date");
  const started = performance.now();
  const failure = compile();
  if (failure === null) {
    writeFileSync(stampFile, stamp);
    return say(`native: built in ${((performance.now() - started) / 1000).toFixed(1)} s`);
  }
  for (const line of explain(failure)) process.stderr.write(`native: ${line}\n`);
  say("native: could not be built; the slower TypeScript fallback is used");
}

try {
  main();
} catch (error) {
  process.stderr.write(`native: ${error.message}\n`);
  say("native: could not be built; the slower TypeScript fallback is used");
}

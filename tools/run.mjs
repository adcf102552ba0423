#!/usr/bin/env node
// Every root script enters here. Uses Node's own modules only, because it must run before anything is installed.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [script, ...rest] = process.argv.slice(2);
const quiet = rest.includes("--json");

/** Runs a command with its output on stderr when `--json` keeps stdout for the result. Exits on failure. */
export function must(command, args, options = {}) {
  const result = spawnSync(command, args, {
    cwd: root,
    stdio: options.stdio ?? ["inherit", quiet ? 2 : "inherit", "inherit"],
    shell: process.platform === "win32",
    env: { ...process.env, ...options.env },
  });
  if (result.error) {
    console.error(`refit-sidecar: could not run ${command}: ${result.error.message}`);
    process.exit(1);
  }
  if (result.status !== 0) process.exit(result.status ?? 1);
}

const stampFile = join(root, "node_modules", ".refit-install");

function installStamp() {
  const hash = createHash("sha256");
  for (const file of ["package-lock.json", "package.json"]) hash.update(readFileSync(join(root, file)));
  return hash.digest("hex");
}

function ensureNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  console.error(`refit-sidecar needs Node 20.19 or newer; this is ${process.version}. Install a newer Node and run the command again.`);
  process.exit(1);
}

/** Installs packages when the lock file changed since the last install. The ONNX Runtime CPU library is inside its package; its GPU download is not needed. */
export function ensureInstalled() {
  ensureNode();
  if (existsSync(stampFile) && readFileSync(stampFile, "utf8") === installStamp()) return;
  console.error("refit-sidecar: installing packages (once)");
  must("npm", ["ci", "--no-audit", "--no-fund"], { env: { ONNXRUNTIME_NODE_INSTALL: "skip" } });
  mkdirSync(dirname(stampFile), { recursive: true });
  writeFileSync(stampFile, installStamp());
}

export function build() {
  ensureInstalled();
  must(process.execPath, ["tools/build-native.mjs", ...(quiet ? ["--json"] : [])]);
  must(process.execPath, ["node_modules/typescript/bin/tsc", "-b"]);
  must(process.execPath, ["tools/build-page.mjs", ...(quiet ? ["--json"] : [])]);
}

const scripts = {
  build,
  demo() {
    build();
    must(process.execPath, ["sidecar/bin/refit-sidecar.mjs", "demo", ...rest], { stdio: "inherit" });
  },
  check() {
    build();
    must(process.execPath, ["tools/check.mjs", ...rest]);
  },
  format() {
    ensureInstalled();
    must(process.execPath, ["node_modules/prettier/bin/prettier.cjs", "--write", "--log-level", "warn", "."]);
    const python = join(root, process.platform === "win32" ? ".venv/Scripts/python.exe" : ".venv/bin/python");
    if (!existsSync(python)) return console.log("Python is not formatted: `npm test` makes the environment that holds ruff");
    must(python, ["-m", "ruff", "format", "--quiet", "."]);
  },
  async test() {
    ensureNode();
    // Both wait for downloads half of the time. A failure is told there, and again by the tests, which try once more.
    const environment = spawn(process.execPath, ["tools/python-env.mjs"], { cwd: root, stdio: ["ignore", 2, 2] });
    process.on("exit", () => environment.kill());
    const made = new Promise((resolve) => environment.on("close", resolve).on("error", resolve));
    build();
    // What needs no Python begins at once; the end of its stdin tells the tests that the environment is there.
    const tests = spawn(process.execPath, ["tools/test.mjs", ...rest], {
      cwd: root,
      stdio: ["pipe", "inherit", "inherit"],
      env: { ...process.env, REFIT_PYTHON_COMES: "1" },
    });
    tests.stdin.on("error", () => {});
    void made.then(() => tests.stdin.end());
    const ended = new Promise((resolve) => tests.on("close", (status) => resolve(status ?? 1)).on("error", () => resolve(1)));
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => tests.kill(signal));
    process.exitCode = await ended;
  },
  "test:unit"() {
    build();
    must(process.execPath, ["tools/test.mjs", "--unit", ...rest]);
  },
  "test:reported"() {
    build();
    must(process.execPath, ["tools/test.mjs", "test/reported", "test/corpus", "test/python/corpus", ...rest]);
  },
  "test:e2e"() {
    build();
    must(process.execPath, ["tools/test.mjs", "--e2e", ...rest]);
  },
  "test:windows"() {
    build();
    must(process.execPath, ["tools/test-windows.mjs", ...rest]);
  },
  "test:leak"() {
    ensureInstalled();
    must(process.execPath, ["tools/test-leak.mjs", ...rest]);
  },
  bench() {
    build();
    must(process.execPath, ["bench/run.mjs", ...rest], { stdio: "inherit" });
  },
  generate() {
    build();
    must(process.execPath, ["tools/generate.mjs", ...rest]);
  },
  release() {
    build();
    must(process.execPath, ["tools/release.mjs", ...rest]);
  },
  clean() {
    for (const path of [
      "protocol/dist",
      "native/dist",
      "native/build",
      "native/.cache",
      "sidecar/dist",
      "sidecar/dashboard/dist",
      "plugin/web/refit",
      "demo-out",
      "dist",
    ]) {
      rmSync(join(root, path), { recursive: true, force: true });
    }
    for (const part of ["protocol", "native", "sidecar", "test"]) rmSync(join(root, part, "tsconfig.tsbuildinfo"), { force: true });
  },
};

const run = scripts[script];
if (!run) {
  console.error(`refit-sidecar: unknown script ${JSON.stringify(script)}; expected one of ${Object.keys(scripts).join(", ")}`);
  process.exit(2);
}
run();

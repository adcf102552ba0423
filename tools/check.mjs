#!/usr/bin/env node
// Types of the sources are checked by the build; here: types of the tests, lint, layer rules, the C++ layer grep, generated files fresh; Python's format, lint and types when the test environment is there.
// `--sources`: without Python's; `--python`: those alone.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
let failed = 0;

const waiting = [];
const step = (name, command, args) => waiting.push({ name, command, args });

/** What it says comes when it is done, whole. */
async function done({ name, command, args }) {
  const said = [];
  const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"], shell: process.platform === "win32" });
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => said.push(chunk));
  const status = await new Promise((resolve) => {
    child.on("error", (error) => {
      said.push(Buffer.from(`${error.message}\n`));
      resolve(1);
    });
    child.on("close", resolve);
  });
  const ok = status === 0;
  console.log(`${ok ? "ok  " : "FAIL"} ${name}`);
  if (!ok) {
    failed += 1;
    console.log(Buffer.concat(said).toString().trim());
  }
}

function sources() {
  // A build: what tests take from the sources comes from the declarations that are built already, and a second check compares what changed.
  step("types of the tests", process.execPath, ["node_modules/typescript/bin/tsc", "-b", "test"]);
  step("types of the page", process.execPath, ["node_modules/typescript/bin/tsc", "-p", "page"]);
  step("eslint", process.execPath, [
    "node_modules/eslint/bin/eslint.js",
    "--max-warnings",
    "0",
    "protocol",
    "native",
    "sidecar",
    "page",
    "test",
    "tools",
    "bench",
  ]);
  step("format (prettier)", process.execPath, ["node_modules/prettier/bin/prettier.cjs", "--check", "--log-level", "warn", "."]);
  step("layer rules (dependency-cruiser)", process.execPath, [
    "node_modules/dependency-cruiser/bin/dependency-cruise.mjs",
    "--config",
    ".dependency-cruiser.cjs",
    "--output-type",
    "err-long",
    "protocol/src",
    "native/ts",
    "sidecar/src",
    "sidecar/hosts",
  ]);
  if (existsSync(join(root, "tools/generate.mjs"))) step("generated files are fresh", process.execPath, ["tools/generate.mjs", "--check"]);

  const math = join(root, "native/src/math");
  const leaks = existsSync(math)
    ? readdirSync(math).filter((file) => /#include\s*[<"](napi|node_api)\.h/.test(readFileSync(join(math, file), "utf8")))
    : [];
  console.log(
    `${leaks.length === 0 ? "ok  " : "FAIL"} native/src/math has no Node header${leaks.length > 0 ? `: ${leaks.join(", ")}` : ""}`,
  );
  if (leaks.length > 0) failed += 1;
}

async function python() {
  const interpreter =
    process.env.REFIT_TEST_PYTHON ?? join(root, process.platform === "win32" ? ".venv/Scripts/python.exe" : ".venv/bin/python");
  if (existsSync(interpreter) && spawnSync(interpreter, ["-m", "ruff", "--version"]).status === 0) {
    const folders = ["plugin", "protocol", "sidecar/hosts/python", "tools", "test/python", "bench"];
    step("format (ruff)", interpreter, ["-m", "ruff", "format", "--check", "--quiet", ...folders]);
    step("ruff", interpreter, ["-m", "ruff", "check", ...folders]);
    // Only the check needs it, so it is installed here: the tests' environment stays as it is.
    const pyright = "pyright==1.1.414";
    if (spawnSync(interpreter, ["-c", "import pyright"]).status !== 0)
      await done({ name: `install ${pyright}`, command: interpreter, args: ["-m", "pip", "install", "--quiet", pyright] });
    step("types of the hosts and the plugin (pyright)", interpreter, ["-m", "pyright", "--pythonpath", interpreter]);
  } else {
    console.log("skip ruff and pyright: the test environment (.venv) has none yet; `npm test` makes it");
  }
}

if (!process.argv.includes("--python")) sources();
if (!process.argv.includes("--sources")) await python();

// The longest first, as many at a time as there are cores: most of them use one.
const longest = ["eslint", "types of the hosts and the plugin (pyright)", "types of the tests"];
waiting.sort((one, other) => Number(longest.includes(other.name)) - Number(longest.includes(one.name)));
async function lane() {
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await done(next);
}
await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, lane));
process.exit(failed === 0 ? 0 : 1);

#!/usr/bin/env node
// Runs every test: vitest (TypeScript, with and without the native addon), pytest (oracles, plugin, Python hosts), the check. Ends with "N passed, N failed".
// `--e2e` runs the long tests instead, `--unit` the quick ones; further arguments that name a path or file narrow the run.
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { testPython } from "./python-env.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const e2e = process.argv.includes("--e2e");
const unit = process.argv.includes("--unit");
/** What starts no process of ours: stages, leaves, protocol, and the Python parts that need no PyTorch. */
const unitPaths = {
  typescript: [
    ...[
      "arrivals/header-length",
      "arrivals/refusing",
      "arrivals/settling",
      "bake",
      "catalog",
      "delta",
      "jobs",
      "options",
      "plan",
      "refit",
      "step",
      "storage",
      "store",
      "telemetry",
      "terms",
      "wire",
    ].map((part) => `test/sidecar/${part}`),
    "test/protocol",
    "test/corpus",
    "test/page",
  ],
  python: [
    "test/python/corpus",
    "test/python/plugin/client/test_frames.py",
    "test/python/plugin/client/test_messages.py",
    "test/python/hosts/refit_host/wire/test_protocol.py",
  ],
};
const wanted = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));
/** Everything that a run writes outside the repository lies here and is gone with it, also when the run is stopped. The name is short: sockets lie in it. */
const scratch = mkdtempSync(join(tmpdir(), "refit-"));
const temporary = join(scratch, "t");
mkdirSync(temporary);
/** Its children, which a stopped run takes along. */
const running = new Set();
process.on("exit", () => {
  for (const child of running) child.kill();
  rmSync(scratch, { recursive: true, force: true, maxRetries: 3 });
});
for (const [signal, status] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
])
  process.on(signal, () => process.exit(status));
for (const name of ["TMPDIR", "TMP", "TEMP"]) process.env[name] = temporary;
// Several engines share two cores here: threads that wait for each other, spinning, made a step of the demo model take twelve times as much of them.
if (!e2e) process.env.REFIT_HOST_ENV ??= "OMP_NUM_THREADS=1";
const totals = { passed: 0, failed: 0, skipped: 0 };

/** A whole run had 1.8 GiB here at most. A full disk fails hundreds of tests that name everything but the disk. */
const neededGiB = 3;
const freeGiB = () => {
  const { bavail, bsize } = statfsSync(scratch);
  return (bavail * bsize) / 2 ** 30;
};
if (freeGiB() < neededGiB) {
  console.error(
    `refit-sidecar: the tests need ${neededGiB} GiB in ${tmpdir()}; ${freeGiB().toFixed(1)} GiB are free. Make room, or set TMPDIR to a folder on another disk.`,
  );
  process.exit(1);
}

/** Starts a program that ends with this run. Resolves with its exit status, 1 when it could not be started; `said` takes what it prints when stdio has pipes. */
function ended(command, args, options, said = []) {
  const child = spawn(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"], ...options });
  running.add(child);
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => said.push(chunk));
  return new Promise((resolve) => {
    const done = (status) => running.delete(child) && resolve(status);
    child.on("close", done);
    child.on("error", (error) => {
      console.error(`refit-sidecar: could not run ${command}: ${error.message}`);
      done(1);
    });
  });
}

/** What `parse` makes of a runner's report; undefined for none, half of one, or an empty one. */
function reported(file, parse) {
  try {
    return parse(readFileSync(file, "utf8"));
  } catch {
    return undefined;
  }
}

function add(label, started, counts) {
  for (const key of Object.keys(totals)) totals[key] += counts[key];
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  console.log(`${label}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped, in ${seconds} s`);
}

/** A runner that dies without a whole report counts as one failure, never as nothing. */
function unreported(label, started, status) {
  console.error(
    `refit-sidecar: ${label} ended with status ${status} and without a whole report; ${scratch} has ${freeGiB().toFixed(1)} GiB left`,
  );
  add(label, started, { passed: 0, failed: 1, skipped: 0 });
}

async function vitest(label, paths, env) {
  const report = join(scratch, `${label.replace(/\W+/g, "-")}.json`);
  const started = performance.now();
  const status = await ended(
    process.execPath,
    ["node_modules/vitest/vitest.mjs", "run", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`, ...paths],
    { env: { ...process.env, ...env, ...(e2e ? { REFIT_E2E: "1" } : {}) } },
  );
  const json = reported(report, JSON.parse);
  if (json === undefined) return unreported(label, started, status);
  const brokenFiles = json.testResults.filter(
    (file) => file.status === "failed" && file.assertionResults.every((test) => test.status !== "failed"),
  ).length;
  const failed = json.numFailedTests + brokenFiles;
  add(label, started, {
    passed: json.numPassedTests,
    failed: failed === 0 && status !== 0 ? 1 : failed,
    skipped: json.numPendingTests + json.numTodoTests,
  });
}

/** One process of pytest. `label` tells it from others beside it, whose output is held back until it ends. */
async function pytest(label, paths, alone) {
  const report = join(scratch, `${label.replace(/\W+/g, "-")}.xml`);
  const marker = e2e ? ["-m", "e2e"] : ["-m", "not e2e"];
  const args = [
    "-m",
    "pytest",
    "-q",
    "-rs",
    "--durations=10",
    ...marker,
    ...(alone ? [] : ["-p", "no:cacheprovider"]),
    `--junitxml=${report}`,
    ...paths,
  ];
  const said = [];
  const started = performance.now();
  // PyTorch's compiler would precompile its headers first, and start processes that compile beside it: both take longer than the few kernels of the tests.
  const env = {
    ...process.env,
    REFIT_TEST_PYTHON: python,
    TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS: "0",
    TORCHINDUCTOR_COMPILE_THREADS: "1",
  };
  const options = { ...(alone ? {} : { stdio: ["ignore", "pipe", "pipe"] }), env };
  const status = await ended(python, args, options, said);
  if (said.length > 0) process.stdout.write(Buffer.concat(said));
  const attributes = reported(report, (text) => /<testsuite [^>]*>/.exec(text)?.[0]);
  if (attributes === undefined) return unreported(label, started, status);
  const number = (name) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(attributes)?.[1] ?? 0);
  const failed = number("failures") + number("errors");
  const noTests = status === 5;
  add(label, started, {
    passed: number("tests") - failed - number("skipped"),
    failed: failed === 0 && status !== 0 && !noTests ? 1 : failed,
    skipped: number("skipped"),
  });
}

const [hosts, plugin] = ["test/python/hosts", "test/python/plugin"];
const hostsPytest = () => pytest("pytest, hosts", [hosts], false);
const pluginPytest = () => pytest("pytest, plugin", [plugin], false);
const otherPytest = () => pytest("pytest, all others", ["test/python", `--ignore=${hosts}`, `--ignore=${plugin}`], false);

/** Types, lint, format, layers, generated files of a part: `sources`, which needs no Python, or `python`. */
async function check(part) {
  const started = performance.now();
  const status = await ended(process.execPath, ["tools/check.mjs", `--${part}`], {});
  add(`check, ${part}`, started, { passed: status === 0 ? 1 : 0, failed: status === 0 ? 0 : 1, skipped: 0 });
}

async function allTypescript() {
  await vitest("vitest", [], {});
  await vitest("vitest, REFIT_NATIVE=off", ["test/native", "test/hostile", "test/sidecar"], {
    REFIT_NATIVE: "off",
  });
}

// pip compiled nothing (python-env.mjs), so what a run imports is compiled once and kept in our own .venv, also where the environment forbids it (containers do):
// each start of Python would compile PyTorch anew, which doubles it.
if (!process.env.REFIT_TEST_PYTHON) delete process.env.PYTHONDONTWRITEBYTECODE;
let python = null;
/** `npm test` makes Python's environment meanwhile, and closes our stdin when it is done. */
async function findPython() {
  if (process.env.REFIT_PYTHON_COMES === "1") for await (const _ of process.stdin);
  try {
    python = testPython(root);
  } catch (error) {
    console.error(`refit-sidecar: ${error.message}`);
    totals.failed += 1;
  }
  if (python) process.env.REFIT_TEST_PYTHON = python;
}

const typescript = wanted.filter((path) => !path.startsWith("test/python"));
const pythonPaths = wanted.filter((path) => path.startsWith("test/python"));
if (unit || e2e || wanted.length > 0) await findPython();
if (unit) {
  await vitest("vitest", unitPaths.typescript, {});
  if (python) await pytest("pytest", unitPaths.python, true);
} else if (wanted.length > 0) {
  if (typescript.length > 0) await vitest("vitest", typescript, {});
  if (python && pythonPaths.length > 0) await pytest("pytest", pythonPaths, true);
} else if (e2e) {
  // These measure, so each runs alone.
  await vitest("vitest", [], {});
  await vitest("vitest, REFIT_NATIVE=off", ["test/hosts/onnxruntime"], { REFIT_NATIVE: "off" });
  if (python) await pytest("pytest", ["test/python"], true);
} else {
  const sources = check("sources");
  await findPython();
  // Python's tests keep to one thread, and vitest's wait for processes and clocks half of the time: both go side by side, and what is left goes to whoever is done first.
  const beside = python && availableParallelism() > 1;
  if (beside) console.log("pytest runs beside vitest; what it says follows when it is done");
  const left = [...(python ? [pluginPytest, otherPytest] : []), () => check("python")];
  const lane = async (first) => {
    await first();
    for (let next = left.shift(); next !== undefined; next = left.shift()) await next();
  };
  const typescriptLane = async () => {
    await sources;
    await allTypescript();
  };
  if (beside) await Promise.all([lane(hostsPytest), lane(typescriptLane)]);
  else {
    await typescriptLane();
    await lane(python ? hostsPytest : async () => undefined);
  }
}

console.log(`${totals.passed} passed, ${totals.failed} failed${totals.skipped > 0 ? `, ${totals.skipped} skipped` : ""}`);
process.exitCode = totals.failed === 0 ? 0 : 1;

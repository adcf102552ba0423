#!/usr/bin/env node
// `npm run test:leak`: the C++ libraries under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer, the fuzz targets, and a memory check of the
// built addon. `--seconds N` sets the time of each fuzz target (10 by default). Ends with "N passed, N failed, N skipped".
// `--fuzz TARGET` runs that target alone and prints its result as one JSON line (for the long run, native/fuzz/run.mjs).
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { seedFiles } from "../native/fuzz/seeds.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const scratch = mkdtempSync(join(tmpdir(), "refit-leak-"));
const option = (name) => (process.argv.includes(name) ? process.argv[process.argv.indexOf(name) + 1] : undefined);
const seconds = Number(option("--seconds")) || 10;
const totals = { passed: 0, failed: 0, skipped: 0 };

const wide = { x64: ["avx2", "avx512"], arm64: ["neon"] }[process.arch] ?? [];
const sources = [
  ...["cpu", "thread_pool", "low_rank", "convert", "kernels_scalar", ...wide.map((set) => `kernels_${set}`)].map(
    (name) => `native/src/math/${name}.cpp`,
  ),
  ...["json_scanner", "header"].map((name) => `native/src/container/${name}.cpp`),
];
const define = { x64: ["-DREFIT_X64"], arm64: ["-DREFIT_ARM64"] }[process.arch] ?? [];
const instructions = {
  kernels_avx2: ["-mavx2", "-mfma", "-mf16c"],
  kernels_avx512: ["-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"],
};

function report(kind, name, detail = "") {
  totals[kind] += 1;
  console.log(`${{ passed: "ok  ", failed: "FAIL", skipped: "skip" }[kind]} ${name}${detail === "" ? "" : `: ${detail}`}`);
}

const run = (command, args, options = {}) => spawnSync(command, args, { cwd: root, encoding: "utf8", maxBuffer: 1 << 26, ...options });
const works = (command) => run(command, ["--version"]).status === 0;

/** Compiles the libraries and `files` into one program; null when that fails, with the reason printed. */
function compile(compiler, name, sanitizers, files) {
  const folder = join(scratch, name);
  mkdirSync(folder);
  const base = [
    "-std=c++20",
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-ffp-contract=off",
    "-pthread",
    `-fsanitize=${sanitizers}`,
    ...define,
  ];
  const objects = [];
  for (const file of [...sources, ...files]) {
    const unit = file.replace(/^.*\//, "").replace(/\.cpp$/, "");
    const object = join(folder, `${unit}.o`);
    const built = run(compiler, [...base, ...(instructions[unit] ?? []), "-c", file, "-o", object]);
    if (built.status !== 0) return (report("failed", name, `${file} does not compile\n${built.stderr}`), null);
    objects.push(object);
  }
  const linked = run(compiler, [...base, ...objects, "-o", join(folder, "program")]);
  if (linked.status !== 0) return (report("failed", name, `does not link\n${linked.stderr}`), null);
  return join(folder, "program");
}

/** Runs a compiled program; sanitizers end it with a status and a report on stderr. */
function exercise(name, program, args, describe) {
  const result = run(program, args, {
    cwd: dirname(program),
    env: { ...process.env, UBSAN_OPTIONS: "print_stacktrace=1:halt_on_error=1", ASAN_OPTIONS: "detect_leaks=1", REFIT_THREADS: "4" },
  });
  const ok = result.status === 0;
  report(ok ? "passed" : "failed", name, ok ? describe(result) : `${result.stdout}\n${result.stderr}`);
  return {
    ok,
    runs: Number(
      /runs: (\d+)|number_of_executed_units:\s*(\d+)/
        .exec(result.stdout + result.stderr)
        ?.slice(1)
        .find(Boolean) ?? 0,
    ),
  };
}

function fuzz(target, clang) {
  const name = `fuzz ${target}, ${clang ? "libFuzzer" : "own driver"}, ${seconds} s`;
  const files = [`native/fuzz/${target}.cpp`, ...(clang ? [] : ["native/fuzz/driver.cpp"])];
  const program = compile(clang ? "clang++" : "g++", `fuzz-${target}`, clang ? "fuzzer,address,undefined" : "address,undefined", files);
  if (program === null) return { target, engine: clang ? "libFuzzer" : "own driver", seconds, runs: 0, findings: 1 };
  const corpus = join(dirname(program), "corpus");
  mkdirSync(corpus);
  const seeds = seedFiles().map((bytes, index) => {
    const path = join(corpus, `seed-${index}`);
    writeFileSync(path, bytes);
    return path;
  });
  const args = clang
    ? [corpus, `-max_total_time=${seconds}`, "-print_final_stats=1", "-max_len=4096", "-timeout=20"]
    : [String(seconds), "20261122", ...seeds];
  const { ok, runs } = exercise(
    name,
    program,
    args,
    (result) =>
      `${/runs: (\d+)|number_of_executed_units:\s*(\d+)/
        .exec(result.stdout + result.stderr)
        ?.slice(1)
        .find(Boolean)} inputs`,
  );
  return { target, engine: clang ? "libFuzzer" : "own driver", seconds, runs, findings: ok ? 0 : 1 };
}

function hasLibFuzzer() {
  if (works("clang++") && compileProbe("clang++", "fuzzer")) return true;
  console.log(
    "note: no clang++ with libFuzzer here; the targets run under g++'s sanitizers with our own mutations, which coverage does not steer",
  );
  return false;
}

function compileProbe(compiler, sanitizer) {
  const source = join(scratch, "probe.cpp");
  const entry =
    sanitizer === "fuzzer" ? 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' : "int main() {}";
  writeFileSync(source, entry);
  return run(compiler, [`-fsanitize=${sanitizer}`, source, "-o", join(scratch, "probe")]).status === 0;
}

/** The addon in Node: thousands of calls of every kind must not grow the process. */
function memoryOfAddon() {
  if (!existsSync(join(root, "native/build/Release/refit_native.node")))
    return report("skipped", "memory of the addon", "it is not built; run `npm run build`");
  const result = run(process.execPath, ["--expose-gc", "test/native/memory.mjs"]);
  report(result.status === 0 ? "passed" : "failed", "memory of the addon", `${result.stdout}${result.stderr}`.trim());
}

/** Compiled tests under each sanitizer, then a short run of every fuzz target. */
function sanitizers(compiler) {
  for (const [name, flags] of [
    ["address and undefined", "address,undefined"],
    ["thread", "thread"],
  ]) {
    if (!compileProbe(compiler, flags.split(",")[0])) {
      report("skipped", `sanitizer ${name}`, `${compiler} lacks it`);
      continue;
    }
    const program = compile(compiler, flags.split(",")[0], flags, ["test/native/cpp/math_test.cpp"]);
    if (program !== null) exercise(`C++ tests, sanitizer ${name}`, program, [], (result) => result.stdout.trim().replaceAll("\n", ", "));
  }
  const clang = hasLibFuzzer();
  for (const target of ["parse_header", "kernels"]) fuzz(target, clang);
}

const compiler = ["g++", "clang++"].find((each) => works(each) && compileProbe(each, "address"));
if (option("--fuzz")) {
  const result = fuzz(option("--fuzz"), hasLibFuzzer());
  rmSync(scratch, { recursive: true, force: true });
  console.log(JSON.stringify(result));
  process.exit(result.findings === 0 ? 0 : 1);
}
if (process.platform === "win32" || compiler === undefined) {
  report(
    "skipped",
    "sanitizers",
    process.platform === "win32"
      ? "run on Linux or macOS; MSVC has no UBSan or TSan"
      : "no C++ compiler with sanitizers; install g++ or clang",
  );
} else sanitizers(compiler);
memoryOfAddon();
rmSync(scratch, { recursive: true, force: true });
console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exitCode = totals.failed === 0 ? 0 : 1;

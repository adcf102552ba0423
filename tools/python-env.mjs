// The tests' Python: REFIT_TEST_PYTHON when set, else `.venv` in the checkout, made on first use from test/python/requirements.txt.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const windows = process.platform === "win32";

function basePython() {
  for (const name of [process.env.PYTHON, "python3", "python"].filter(Boolean)) {
    const probe = spawnSync(name, ["-c", "import sys; print(sys.version_info >= (3, 10))"], { encoding: "utf8" });
    if (probe.status === 0 && probe.stdout.trim() === "True") return name;
  }
  return null;
}

/** Returns the interpreter's path, or throws with what to do. `root` is the checkout. */
export function testPython(root) {
  const given = process.env.REFIT_TEST_PYTHON;
  if (given) return given;
  const venv = join(root, ".venv");
  const python = join(venv, windows ? "Scripts/python.exe" : "bin/python");
  const requirements = join(root, "test/python/requirements.txt");
  const stampFile = join(venv, ".refit-install");
  const stamp = createHash("sha256").update(readFileSync(requirements)).digest("hex");
  if (existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp) return python;
  const base = basePython();
  if (!base)
    throw new Error(
      "the tests need Python 3.10 or newer with venv; none of $PYTHON, python3, python is one. Install it (Debian: apt install python3-venv) and run the command again",
    );
  console.error("refit-sidecar: making the tests' Python environment (once)");
  const run = (command, args) => {
    const result = spawnSync(command, args, { cwd: root, stdio: ["ignore", 2, 2] });
    if (result.status !== 0) throw new Error(`${command} ${args.join(" ")} failed with status ${result.status}`);
  };
  run(base, ["-m", "venv", venv]);
  // Python compiles what is imported; pip would compile all of PyTorch.
  run(python, ["-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check", "-r", requirements]);
  writeFileSync(stampFile, stamp);
  return python;
}

// As a program of its own: makes the environment while other things are built (tools/run.mjs).
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    testPython(dirname(dirname(fileURLToPath(import.meta.url))));
  } catch (error) {
    console.error(`refit-sidecar: ${error.message}`);
    process.exitCode = 1;
  }
}

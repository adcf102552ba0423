// The cross compiler: Zig's clang, from the PyPI package `ziglang`, in a virtual environment under .cache. One pinned version, so that two machines make the same bytes.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";

export const zigVersion = "0.17.1";

/** Runs a command; returns its output. Throws with the output when it fails. */
export function mustRun(command, args, options = {}) {
  const result = spawnSync(command, args, { encoding: "utf8", maxBuffer: 1 << 27, ...options });
  if (result.error) throw new Error(`could not run ${command}: ${result.error.message}`);
  if (result.status !== 0)
    throw new Error(`${command} ${args.slice(0, 3).join(" ")} … ended with ${result.status}:\n${result.stdout}\n${result.stderr}`);
  return result.stdout;
}

function environmentPython(folder) {
  const python = join(folder, process.platform === "win32" ? "Scripts/python.exe" : "bin/python");
  if (!existsSync(python)) {
    mkdirSync(folder, { recursive: true });
    mustRun(process.env.PYTHON ?? (process.platform === "win32" ? "python" : "python3"), ["-m", "venv", folder]);
  }
  return python;
}

/** The Python of the environment that holds Zig; it is made when absent. */
export const zigPython = (root) => environmentPython(join(root, ".cache", "zig"));

/** @returns {(args: readonly string[]) => string} runs `zig` with these arguments */
export function findZig(root) {
  const folder = join(root, ".cache", "zig");
  const python = zigPython(root);
  const cache = join(folder, "objects");
  const env = { ...process.env, ZIG_GLOBAL_CACHE_DIR: cache, ZIG_LOCAL_CACHE_DIR: cache };
  const found = spawnSync(python, ["-m", "ziglang", "version"], { encoding: "utf8", env });
  if (found.stdout?.trim() !== zigVersion)
    mustRun(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", `ziglang==${zigVersion}`]);
  return (args) => mustRun(python, ["-m", "ziglang", ...args], { env });
}

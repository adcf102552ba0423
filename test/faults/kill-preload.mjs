// Loaded before anything else (`--import`), for a system whose calls nothing can be preloaded into (Windows; elsewhere kill-shim.c): at its REFIT_KILL_AT-th change of anything below REFIT_KILL_DIR
// the process ends at once, a write after half of its bytes. Counts are written to REFIT_KILL_COUNT. What the addon writes by itself is not seen.
import fs from "node:fs";
import promises from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

const { REFIT_KILL_DIR: folder, REFIT_KILL_AT: at, REFIT_KILL_COUNT: counts } = process.env;
const { appendFileSync, statSync } = fs;

/** Windows knows no case, and either slash. */
const spoken = (path) => resolve(path).toLowerCase();

function below(path) {
  if (typeof path !== "string" && !(path instanceof URL) && !Buffer.isBuffer(path)) return false;
  return spoken(path instanceof URL ? fileURLToPath(path) : String(path)).startsWith(spoken(folder) + sep);
}

/** True for the change that must not be completed. One count for all threads: the length of the file. */
function fatal() {
  appendFileSync(counts, ".");
  return statSync(counts).size === Number(at);
}

function die() {
  process.kill(process.pid, "SIGKILL");
  // Windows ends the other threads first.
  for (;;);
}

const half = (data) => data.slice(0, data.length >> 1);

/** Methods of an open file that change it: a write gets through by half. */
function watchHandle(handle) {
  const real = Object.fromEntries(
    ["write", "writeFile", "appendFile", "writev", "sync", "datasync", "truncate"].map((name) => [name, handle[name].bind(handle)]),
  );
  handle.write = async (data, ...rest) => {
    if (!fatal()) return real.write(data, ...rest);
    if (typeof data === "string") await real.write(half(data));
    else await real.write(data, Number(rest[0] ?? 0), Number(rest[1] ?? data.byteLength) >> 1, rest[2] ?? null);
    die();
  };
  for (const name of ["writeFile", "appendFile"])
    handle[name] = async (data, ...rest) => {
      if (!fatal()) return real[name](data, ...rest);
      if (typeof data === "string" || ArrayBuffer.isView(data)) await real[name](half(data), ...rest);
      die();
    };
  for (const name of ["writev", "sync", "datasync", "truncate"]) handle[name] = (...given) => (fatal() ? die() : real[name](...given));
  return handle;
}

/** Calls that change what lies at one of their paths. */
const changes = ["writeFile", "appendFile", "rename", "rm", "unlink", "rmdir", "mkdir", "copyFile", "cp", "symlink", "link", "truncate"];
const touches = (given) => below(given[0]) || below(given[1]);

if (folder !== undefined && counts !== undefined) {
  for (const name of changes) {
    for (const [home, key] of [
      [promises, name],
      [fs, `${name}Sync`],
    ]) {
      const real = home[key];
      home[key] = (...given) => (touches(given) && fatal() ? die() : real(...given));
    }
  }
  const { open } = promises;
  promises.open = async (path, flags, ...rest) => {
    if (!below(path)) return open(path, flags, ...rest);
    const writes = typeof flags === "string" && /[wa+]/.test(flags);
    if (writes && fatal()) die();
    const handle = await open(path, flags, ...rest);
    return writes ? watchHandle(handle) : handle;
  };
  syncBuiltinESMExports();
}

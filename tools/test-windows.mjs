#!/usr/bin/env node
// Windows' own paths through the product, under Wine: the package, the demo with its end, an update, the addon, and vitest's suites of everything that meets the operating system.
// Says what is missing and skips where there is no Wine. `--node 20|22`; further arguments narrow the suites; `--no-package` leaves the package out. Ends with "N passed, N failed".
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { layWindowsCheckout } from "./windows/checkout.mjs";
import { whatIsMissing, windowsNode, windowsPath } from "./windows/wine.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values, positionals } = parseArgs({
  options: { node: { type: "string", default: "20" }, "no-package": { type: "boolean", default: false } },
  allowPositionals: true,
});
const cache = join(root, ".cache", "windows");
const minutes = 60_000;

/** Each file runs in a process of its own, since Wine's are slow to start and quick to run out of time. */
const suites =
  positionals.length > 0
    ? positionals
    : [
        "test/windows",
        "test/sidecar/arrivals",
        "test/sidecar/catalog",
        "test/sidecar/store",
        "test/sidecar/wire",
        "test/sidecar/host/connection.test.ts",
        "test/sidecar/host/start-host.test.ts",
        "test/sidecar/host/supervisor.test.ts",
        "test/sidecar/install/install.test.ts",
        "test/sidecar/install/update.test.ts",
        "test/native",
        "test/sidecar/cli/stop.test.ts",
        "test/faults/kill.e2e.test.ts",
        "test/faults/writes.e2e.test.ts",
      ];

/** A start takes ten times as long under Wine as on Linux: fewer kills, and each eleventh write. */
const faults = { REFIT_KILLS: "6", REFIT_KILL_STRIDE: "11" };

let [passed, failed] = [0, 0];
const tell = (ok, name, ms, more = "") => {
  if (ok) passed += 1;
  else failed += 1;
  console.log(`${ok ? "ok  " : "FAIL"} ${name} (${(ms / 1000).toFixed(1)} s)${more === "" ? "" : `\n${more}`}`);
};

const lastJson = (text) => {
  try {
    return JSON.parse(text.trim().split("\n").at(-1) ?? "");
  } catch {
    return null;
  }
};

async function packageSteps(node, payload) {
  const entry = windowsPath(join(payload, "bin", "refit-sidecar.mjs"));
  const folder = join(cache, "work");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const doctor = await node([entry, "doctor", "--json", "--data-dir", windowsPath(join(folder, "data"))], { cwd: folder });
  const native = lastJson(doctor.stdout)?.findings?.find(({ name }) => name === "native addon")?.found ?? "";
  tell(
    doctor.status === 0 && native.includes("prebuilt for win32-x64"),
    `doctor: ${native}`,
    doctor.ms,
    doctor.status === 0 ? "" : doctor.stderr,
  );
  const demo = await node([entry, "demo", "--json", "--out", windowsPath(join(folder, "demo"))], { cwd: folder });
  const report = lastJson(demo.stdout);
  tell(
    demo.status === 0 && report?.ok === true,
    `demo, with its end: refit ${report?.timeline_ms?.refit?.toFixed(0)} ms after the file arrived, restored ${report?.restored_bit_identical}`,
    demo.ms,
    demo.timedOut ? `it did not end\n${demo.stdout}${demo.stderr}` : demo.status === 0 ? "" : `${demo.stdout}${demo.stderr}`,
  );
}

/** npm is JavaScript; Windows' own lies beside node.exe, where ours is laid. */
function bringNpm(exe) {
  const to = join(dirname(exe), "node_modules", "npm");
  const from = spawnSync("npm", ["root", "--global"], { encoding: "utf8" }).stdout.trim();
  if (!existsSync(to)) cpSync(join(from, "npm"), to, { recursive: true, dereference: true });
}

/** The package as npm leaves it, on a data folder of 0.1.0, replaced by a newer one while it runs the replacement itself: Windows keeps loaded libraries. */
async function updateSteps(node, payload) {
  const folder = join(cache, "work", "update");
  const [app, newer, data] = ["app", "newer", "data"].map((name) => join(folder, name));
  cpSync(payload, join(app, "node_modules", "refit-sidecar"), { recursive: true });
  writeFileSync(join(app, "package.json"), '{"private":true,"dependencies":{"refit-sidecar":"*"}}');
  cpSync(payload, newer, { recursive: true });
  const manifest = JSON.parse(readFileSync(join(newer, "package.json"), "utf8"));
  writeFileSync(join(newer, "package.json"), JSON.stringify({ ...manifest, version: "9.9.9" }));
  const [{ filename }] = JSON.parse(spawnSync("npm", ["pack", newer, "--json"], { cwd: folder, encoding: "utf8" }).stdout);
  cpSync(join(root, "test", "golden", "data-0.1.0"), data, { recursive: true });
  const entry = windowsPath(join(app, "node_modules", "refit-sidecar", "bin", "refit-sidecar.mjs"));
  const given = ["--from", windowsPath(join(folder, filename)), "--data-dir", windowsPath(data), "--json"];
  const updated = await node([entry, "update", ...given], { cwd: app, env: { npm_config_offline: "true" } });
  const report = lastJson(updated.stdout);
  const kept = report?.stores?.reduce((sum, store) => sum + store.kept, 0);
  // What npm could not delete of the package before stays as `.refit-sidecar-…`.
  const own = new Set(["refit-sidecar", ".bin", ".package-lock.json"]);
  const left = readdirSync(join(app, "node_modules")).filter((name) => !own.has(name));
  tell(
    updated.status === 0 && report?.version === "9.9.9" && kept === 2 && left.length === 0,
    `update from ${report?.from} to ${report?.version} by npm: ${kept} stores of 0.1.0 kept, ${left.length} leftovers`,
    updated.ms,
    updated.status === 0 && left.length === 0 ? "" : `${left.join(", ")}\n${updated.stdout}${updated.stderr.slice(-3000)}`,
  );
}

/** What Wine alone does, each by a script without our code. Not counted: it explains what the suites leave out. */
async function limitSteps(node) {
  const folder = join(root, "tools", "windows", "limits");
  for (const file of readdirSync(folder).sort()) {
    const path = join(folder, file);
    const said = (await node([windowsPath(path)], { bare: true })).stdout.trim();
    const here = spawnSync(process.execPath, [path], { encoding: "utf8" }).stdout.trim();
    console.log(`${said === here ? "no limit any more" : "limit of Wine"}: ${file}: ${said}; Linux: ${here}`);
  }
}

const pythonCall = `
import sys
from pathlib import Path
from refit_sidecar_plugin.client import SidecarClient
client = SidecarClient("test-windows", "1", data_dir=Path(sys.argv[1]))
print(", ".join(sorted(client.call("status", {}).result)))
client.close()
`;

/** `stop` ends a sidecar in another process: Windows has no signal for that. */
async function stopStep(node, payload) {
  const data = join(cache, "work", "stop-data");
  const entry = windowsPath(join(payload, "bin", "refit-sidecar.mjs"));
  const ended = node([entry, "serve", "--data-dir", windowsPath(data)], { timeoutMs: 5 * minutes });
  for (let waited = 0; !existsSync(join(data, "sidecar.json")) && waited < 4 * minutes; waited += 200)
    await new Promise((wake) => setTimeout(wake, 200));
  const stopped = await node([entry, "stop", "--json", "--data-dir", windowsPath(data)]);
  const { status, timedOut } = await ended;
  tell(
    stopped.status === 0 &&
      lastJson(stopped.stdout)?.stopped === true &&
      status === 0 &&
      !timedOut &&
      !existsSync(join(data, "sidecar.json")),
    "stop ends the sidecar of another process, and its address is gone",
    stopped.ms,
    stopped.status === 0 ? "" : `${stopped.stdout}${stopped.stderr}`,
  );
}

/** A sidecar of Windows, spoken to by the plugin's Python client (of this system: sockets are shared), and ended by Ctrl-C: Wine hands SIGINT on as the console's CTRL_C_EVENT. */
async function serveSteps(node, payload) {
  const data = join(cache, "work", "serve-data");
  await stopStep(node, payload);
  const python = join(root, ".venv", "bin", "python");
  let pid = 0;
  const ended = node([windowsPath(join(payload, "bin", "refit-sidecar.mjs")), "serve", "--data-dir", windowsPath(data)], {
    timeoutMs: 5 * minutes,
    onStart: (started) => (pid = started),
  });
  const address = join(data, "sidecar.json");
  const started = performance.now();
  while (!existsSync(address) && performance.now() - started < 4 * minutes) await new Promise((wake) => setTimeout(wake, 200));
  if (!existsSync(python)) console.log("skip a Python client over the socket: the test environment (.venv) is not made");
  else {
    // Wine gives every file the rights of its server's umask; a Linux client refuses an address that others can read.
    chmodSync(address, 0o600);
    const asked = performance.now();
    const { status, stdout, stderr } = spawnSync(python, ["-c", pythonCall, data], {
      encoding: "utf8",
      env: { ...process.env, PYTHONPATH: join(root, "plugin") },
    });
    tell(status === 0, `a Python client over the socket: status ${stdout.trim()}`, performance.now() - asked, stderr);
  }
  const asked = performance.now();
  process.kill(pid, "SIGINT");
  const { status, timedOut, stderr } = await ended;
  tell(
    status === 0 && !timedOut && !existsSync(address),
    "CTRL_C ends the sidecar, and its address is gone",
    performance.now() - asked,
    status === 0 ? "" : `status ${status}${timedOut ? ", it did not end" : ""}\n${stderr.slice(-2000)}`,
  );
}

async function main() {
  const missing = whatIsMissing();
  if (missing !== null) return console.log(`skip test:windows: ${missing}`);
  mkdirSync(cache, { recursive: true });
  const node = windowsNode(root, cache, Number(values.node));
  const { checkout, payload } = layWindowsCheckout(root, cache, (line) => console.log(line));
  await limitSteps(node);
  if (!values["no-package"]) {
    bringNpm(node.exe);
    await packageSteps(node, payload);
    await updateSteps(node, payload);
    await serveSteps(node, payload);
  }
  for (const suite of suites) {
    if (!existsSync(join(checkout, suite))) throw new Error(`${suite} is not in this checkout`);
    const { status, timedOut, stdout, stderr, ms } = await node(
      ["node_modules/vitest/vitest.mjs", "run", "--no-color", "--pool=threads", "--maxWorkers=1", suite],
      { cwd: checkout, timeoutMs: 40 * minutes, env: suite.includes(".e2e.") ? { ...faults, REFIT_E2E: "1" } : {} },
    );
    const counts = /Tests\s+(.*)/.exec(stdout)?.[1]?.trim() ?? "no count";
    tell(
      status === 0,
      `${suite}: ${counts}`,
      ms,
      status === 0 ? "" : `${timedOut ? "it did not end\n" : ""}${stdout.slice(-6000)}${stderr.slice(-3000)}`,
    );
  }
  console.log(`${passed} passed, ${failed} failed`);
  if (failed > 0) process.exitCode = 1;
}

await main();

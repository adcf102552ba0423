import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it } from "vitest";
import { testPython } from "../../../tools/python-env.mjs";
import { folderHash, must } from "./wheels.ts";

// The real packages, from the package index that pip is set to (or REFIT_TEST_WHEELS, a folder of wheels): gigabytes and minutes.
const cli = fileURLToPath(new URL("../../../sidecar/bin/refit-sidecar.mjs", import.meta.url));
const python = testPython(fileURLToPath(new URL("../../../", import.meta.url)));
const binary = process.platform === "win32" ? ["Scripts", "python.exe"] : ["bin", "python"];
const folder = realpathSync(mkdtempSync(join(tmpdir(), "refit-real-host-")));
const wheels = process.env["REFIT_TEST_WHEELS"];
const links = wheels === undefined ? [] : ["--no-index", "--find-links", wheels];
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function run(
  data: string,
  ...args: string[]
): { readonly status: number | null; readonly stderr: string; readonly last: Record<string, unknown> } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args, "--json", "--data-dir", join(folder, data)], {
    encoding: "utf8",
    cwd: folder,
    env: { ...process.env, REFIT_PYTHON: undefined },
    maxBuffer: 1 << 26,
  });
  return { status, stderr, last: JSON.parse(stdout.trim().split("\n").at(-1) ?? "{}") as Record<string, unknown> };
}

function selftest(data: string): void {
  const { status, stderr } = run(data, "selftest", "--host", "torch", "--repeats", "3", "--out", join(folder, `${data}.md`));
  expect(status, stderr).toBe(0);
  expect(readFileSync(join(folder, `${data}.md`), "utf8")).toContain("self-test: passed");
}

it("the torch host in an environment of its own passes the self-test", () => {
  const { status, stderr, last } = run("own", "host", "install", "torch", "--python", python, "--wheels", "cpu", ...links);
  expect(status, stderr).toBe(0);
  expect(last).toMatchObject({ ok: true, installed: { host: "torch", mode: "own", wheels: "cpu" } });
  selftest("own");
  expect(run("own", "host", "rm", "torch").status).toBe(0);
}, 1_800_000);

it("the torch host beside a UI's PyTorch leaves the UI's packages as they are, byte for byte, and passes the self-test", () => {
  const ui = join(folder, "ui");
  must(python, ["-m", "venv", ui]);
  must(join(ui, ...binary), [
    "-m",
    "pip",
    "install",
    "--quiet",
    "--disable-pip-version-check",
    ...links,
    "torch==2.13.0",
    "transformers",
    "psutil",
  ]);
  const before = folderHash(ui);
  const { status, stderr, last } = run("beside", "host", "install", "torch", "--reuse", join(ui, ...binary), ...links);
  expect(status, stderr).toBe(0);
  expect(last).toMatchObject({ ok: true, installed: { mode: "reuse", wheels: "reused" } });
  selftest("beside");
  expect(folderHash(ui)).toBe(before);
}, 1_800_000);

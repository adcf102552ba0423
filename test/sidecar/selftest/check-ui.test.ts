// `selftest --webui`: the plugin's checks inside a web UI's own Python, on a stand-in of Forge Neo made from its recorded facts.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { checkUi } from "../../../sidecar/src/selftest/index.ts";

const root = join(import.meta.dirname, "../../..");
const python = process.env["REFIT_TEST_PYTHON"] ?? join(root, ".venv/bin/python");
const folder = mkdtempSync(join(tmpdir(), "refit-neo-"));
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
beforeEach(() => void execFileSync(python, [join(root, "test/python/plugin/ui/webui/neo_stand_in.py"), folder]));

/** In the stand-in, `text` of a file reads otherwise. */
function change(file: string, text: string, other: string): void {
  const before = readFileSync(join(folder, file), "utf8");
  expect(before).toContain(text);
  writeFileSync(join(folder, file), before.replace(text, other));
}

const check = (more: { readonly python?: string } = {}) =>
  checkUi({ uiFolder: folder, python, plugin: join(root, "plugin"), onRow: () => undefined, ...more });
const failed = async () => {
  const { ok, rows } = await check();
  expect(ok).toBe(false);
  return Object.fromEntries(rows.filter(({ status }) => status === "fail").map(({ id, detail }) => [id, detail]));
};

describe("the check of a web UI", { timeout: 120_000 }, () => {
  it("passes where everything is as recorded, and tells what the UI is without its place", async () => {
    const report = await check();
    expect(report.rows.filter(({ status }) => status !== "pass")).toEqual([]);
    expect(report).toMatchObject({ host: "Forge Neo", ok: true });
    expect(report.rows.map(({ id }) => id)).toEqual(["ui", "names", "patcher", "weights", "stand-in", "wrapper", "storage"]);
    expect(report.rows[0]?.detail).toMatch(/release neo stand-in, python 3\.\d+\.\d+, .*torch /);
    expect(JSON.stringify(report)).not.toContain(folder);
  });

  it("names what went away, was renamed, or does otherwise than it did", async () => {
    change("backend/patcher/base.py", "def set_model_unet_function_wrapper(self", "def set_wrapper(self");
    change("backend/patcher/base.py", "parameters[key].data = weight\n", "pass\n");
    change("modules/script_callbacks.py", "def on_cfg_denoiser(callback, name)", "def on_cfg_denoiser(name)");
    expect(await failed()).toMatchObject({
      names: expect.stringMatching(
        /on_cfg_denoiser: expected \(callback, name\), found \(name\).*function_wrapper: expected .* found nothing/,
      ),
      weights: expect.stringContaining("not the checkpoint's when the LoRA is taken off"),
    });
  });

  it("says what an import of the UI's own modules ended with", async () => {
    change("backend/memory_management.py", "import torch", "import torch\nimport a_package_of_the_ui");
    expect(await failed()).toMatchObject({ patcher: "ModuleNotFoundError: No module named 'a_package_of_the_ui'" });
  });

  it("a Python that is none, or that cannot run it, is told with what to do", async () => {
    await expect(check({ python: join(folder, "no-python") })).rejects.toMatchObject({ code: "SELFTEST_UI" });
    await expect(check({ python: process.execPath })).rejects.toThrow(/--python/);
  });
});

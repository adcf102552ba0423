import { existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Failure } from "../../../sidecar/src/failure/index.ts";
import { applyPlan, look, planInstall, planUninstall } from "../../../sidecar/src/install/index.ts";
import type { Sight } from "../../../sidecar/src/install/index.ts";

let root: string;
let plugin: string;
const entry = join("sidecar", "bin", "refit-sidecar.mjs");

function make(folder: string, ...files: readonly string[]): string {
  for (const file of files) {
    const path = join(folder, file);
    mkdirSync(file.endsWith("/") ? path : dirname(path), { recursive: true });
    if (!file.endsWith("/")) writeFileSync(path, "");
  }
  return folder;
}

const comfyui = (name = "ComfyUI") => make(join(root, name), "main.py", "comfy/", "custom_nodes/");
const wish = (over: Partial<Parameters<typeof planInstall>[1]> = {}) => ({ plugin, entry, mode: "link" as const, packages: false, ...over });
const place = (ui: string) => join(ui, "custom_nodes", "refit-sidecar");

function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof Failure) return error.code;
    throw error;
  }
  return "none";
}

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), "refit-install-")));
  plugin = make(join(root, "plugin"), "__init__.py", "requirements.txt", "refit_sidecar_plugin/__init__.py", "__pycache__/x.pyc");
  writeFileSync(join(plugin, "pyproject.toml"), '[project]\nname = "refit-sidecar"\n');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

describe("look tells the interfaces apart", () => {
  test.each([
    ["comfyui", ["main.py", "comfy/", "custom_nodes/"], "custom_nodes"],
    ["a1111", ["launch.py", "modules/", "extensions/"], "extensions"],
    ["forge", ["launch.py", "modules/", "extensions/", "backend/", "modules_forge/"], "extensions"],
    ["reforge", ["launch.py", "modules/", "extensions/", "modules_forge/", "ldm_patched/"], "extensions"],
  ])("%s", (ui, files, plugins) => {
    const folder = make(join(root, "ui"), ...files);
    expect(look(folder)).toEqual({ ui, uiFolder: folder, pluginsFolder: join(folder, plugins), place: { kind: "nothing" }, python: null });
  });

  test("a portable download, with its embedded Python", () => {
    const portable = make(join(root, "ComfyUI_windows_portable"), "ComfyUI/main.py", "ComfyUI/comfy/", "ComfyUI/custom_nodes/", "python_embeded/python.exe");
    const sight = look(portable);
    expect(sight.uiFolder).toBe(join(portable, "ComfyUI"));
    expect(sight.python).toBe(join(portable, "python_embeded", "python.exe"));
  });

  test("a virtual environment in the UI's folder", () => {
    const ui = make(comfyui(), "venv/bin/python");
    expect(look(ui).python).toBe(join(ui, "venv", "bin", "python"));
  });

  test("another folder is no UI", () => {
    const sight = look(make(join(root, "other"), "main.py"));
    expect(sight.ui).toBeNull();
    expect(codeOf(() => planInstall(sight, wish()))).toBe("INSTALL_UI_UNKNOWN");
    expect(codeOf(() => planUninstall(sight))).toBe("INSTALL_UI_UNKNOWN");
  });
});

describe("install and uninstall", () => {
  test("a link is made, renewed and removed; the plugin itself stays", async () => {
    const ui = comfyui();
    for (let round = 0; round < 2; round += 1) await applyPlan(planInstall(look(ui), wish()));
    expect(readlinkSync(place(ui))).toBe(plugin);
    await applyPlan(planUninstall(look(ui)));
    expect(existsSync(place(ui))).toBe(false);
    expect(existsSync(join(plugin, "__init__.py"))).toBe(true);
  });

  test("a copy carries the note of the sidecar's entry and no bytecode, and is removed whole", async () => {
    const ui = comfyui();
    for (let round = 0; round < 2; round += 1) await applyPlan(planInstall(look(ui), wish({ mode: "copy" })));
    expect(lstatSync(place(ui)).isDirectory()).toBe(true);
    expect(readFileSync(join(place(ui), "sidecar-entry.txt"), "utf8")).toBe(`${entry}\n`);
    expect(existsSync(join(place(ui), "__pycache__"))).toBe(false);
    await applyPlan(planUninstall(look(ui)));
    expect(existsSync(place(ui))).toBe(false);
  });

  test("a link whose target was moved away is renewed", async () => {
    const ui = comfyui();
    symlinkSync(join(root, "gone"), place(ui), "junction");
    await applyPlan(planInstall(look(ui), wish()));
    expect(readlinkSync(place(ui))).toBe(plugin);
  });

  test.each(["folder", "file", "link"])("somebody else's %s at the place is never touched", (kind) => {
    const ui = comfyui();
    if (kind === "file") writeFileSync(place(ui), "");
    else if (kind === "folder") make(place(ui), "precious.txt");
    else symlinkSync(make(join(root, "theirs"), "precious.txt"), place(ui), "junction");
    expect(codeOf(() => planInstall(look(ui), wish()))).toBe("INSTALL_PLACE_TAKEN");
    expect(codeOf(() => planUninstall(look(ui)))).toBe("INSTALL_PLACE_TAKEN");
  });

  test("nothing to uninstall is said", () => {
    expect(codeOf(() => planUninstall(look(comfyui())))).toBe("INSTALL_NOT_THERE");
  });

  test("packages go into the UI's own Python where it is known, else the plan says how", () => {
    const sight: Sight = { ui: "comfyui", uiFolder: root, pluginsFolder: join(root, "custom_nodes"), place: { kind: "nothing" }, python: "/ui/python" };
    const requirements = join(plugin, "requirements.txt");
    expect(planInstall(sight, wish({ packages: true })).actions.at(-1)).toEqual({ kind: "run", command: ["/ui/python", "-m", "pip", "install", "-r", requirements] });
    expect(planInstall(sight, wish()).notes[0]).toContain(`/ui/python -m pip install -r "${requirements}"`);
    expect(planInstall({ ...sight, python: null }, wish({ packages: true })).notes[0]).toContain(`python -m pip install -r "${requirements}"`);
  });

  test("a command that fails, or is not there, names itself", async () => {
    for (const command of [[process.execPath, "-e", "process.exit(3)"], [join(root, "none")]]) {
      await expect(applyPlan({ ui: "comfyui", actions: [{ kind: "run", command }], notes: [] })).rejects.toMatchObject({ code: "INSTALL_COMMAND_FAILED", message: expect.stringContaining(command.join(" ")) });
    }
  });

  test("a disk that refuses is said with the system's code", async () => {
    const plan = { ui: "comfyui" as const, actions: [{ kind: "unlink" as const, path: join(root, "none") }], notes: [] };
    await expect(applyPlan(plan)).rejects.toMatchObject({ code: "INSTALL_DISK_REFUSED", evidence: { code: "ENOENT" } });
  });
});

import { execFileSync } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Failure } from "../../../sidecar/src/failure/index.ts";
import type { Gpu, InstalledHost } from "../../../sidecar/src/install/host/index.ts";
import { applyPlan, look, planGpuHost, planInstall, planUninstall } from "../../../sidecar/src/install/index.ts";
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

const webui = {
  a1111: ["launch.py", "modules/launch_utils.py", "extensions/"],
  forge: ["launch.py", "modules/launch_utils.py", "extensions/", "backend/", "modules_forge/"],
  reforge: ["launch.py", "modules/launch_utils.py", "extensions/", "modules_forge/", "ldm_patched/"],
};
/** Forge Neo as it is cloned, before its first start: no folder of extensions, and a version that says what it is. */
function neo(name = "neo", version = 'version = "neo"\nrelease = "2.22"\n'): string {
  const folder = make(join(root, name), "launch.py", "modules/launch_utils.py", "backend/", "modules_forge/");
  writeFileSync(join(folder, "modules_forge/forge_version.py"), version);
  return folder;
}
const comfyui = (name = "ComfyUI") => make(join(root, name), "main.py", "comfy/", "custom_nodes/");
const wish = (over: Partial<Parameters<typeof planInstall>[2]> = {}) => ({
  plugin,
  entry,
  mode: "link" as const,
  packages: false,
  ...over,
});
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

/** Wine and some disks make no junctions. */
function linksHere(): boolean {
  const folder = mkdtempSync(join(tmpdir(), "refit-links-"));
  try {
    symlinkSync(folder, join(folder, "link"), "junction");
    return lstatSync(join(folder, "link")).isSymbolicLink();
  } catch {
    return false;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
const links = linksHere();
if (!links) console.log("skip what lies behind a link: this system makes none here (as on exFAT, the plugin is copied, which is tested)");

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), "refit-install-")));
  plugin = make(join(root, "plugin"), "__init__.py", "requirements.txt", "refit_sidecar_plugin/__init__.py", "__pycache__/x.pyc");
  writeFileSync(join(plugin, "pyproject.toml"), '[project]\nname = "refit-sidecar"\n');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

describe("the engine host of a graphics card comes with the plugin", () => {
  const card = { name: "NVIDIA GeForce RTX 4070" } as Gpu;
  const sight = { ui: "comfyui" as const, gpus: [card], installed: null, python: "/ui/python", wanted: true };

  test("beside the UI's own Python, and says what it downloads", () => {
    expect(planGpuHost(sight)).toEqual({
      kind: "install",
      python: "/ui/python",
      command: 'refit-sidecar host install torch --reuse "/ui/python"',
      says: expect.stringMatching(/RTX 4070.*150 MB.*--no-gpu/),
    });
  });

  test("nothing without a card, or where it is there already", () => {
    expect(planGpuHost({ ...sight, gpus: [] })).toEqual({ kind: "nothing" });
    expect(planGpuHost({ ...sight, installed: {} as InstalledHost })).toEqual({ kind: "nothing" });
  });

  test("a line with the command where the UI's Python was not found, and where it was left out", () => {
    expect(planGpuHost({ ...sight, python: null })).toMatchObject({
      kind: "note",
      note: expect.stringContaining("host install torch --reuse PYTHON"),
    });
    expect(planGpuHost({ ...sight, wanted: false })).toMatchObject({
      kind: "note",
      note: expect.stringContaining('host install torch --reuse "/ui/python"'),
    });
  });
});

describe("look tells the interfaces apart", () => {
  test.each([
    ["comfyui", ["main.py", "comfy/", "custom_nodes/"], "custom_nodes"],
    ["a1111", webui.a1111, "extensions"],
    ["forge", webui.forge, "extensions"],
    ["reforge", webui.reforge, "extensions"],
  ])("%s", (ui, files, plugins) => {
    const folder = make(join(root, "ui"), ...files);
    expect(look(folder)).toEqual({ ui, uiFolder: folder, pluginsFolder: join(folder, plugins), place: { kind: "nothing" }, python: null });
  });

  test("Forge Neo by what its version file says, and nothing else by it", () => {
    const folder = neo();
    expect(look(folder)).toMatchObject({ ui: "neo", uiFolder: folder, pluginsFolder: join(folder, "extensions") });
    // Another branch of that repository, and Forge, have another version; without a folder of extensions they are no UI that is known.
    expect(look(neo("classic", 'version = "1.9"\n')).ui).toBe(null);
    expect(look(make(neo("forge", 'version = "f2.0.1"\n'), "extensions/")).ui).toBe("forge");
    expect(look(make(join(root, "half"), "modules_forge/forge_version.py")).ui).toBe(null);
  });

  test("a portable download, with its embedded Python", () => {
    const portable = make(
      join(root, "ComfyUI_windows_portable"),
      "ComfyUI/main.py",
      "ComfyUI/comfy/",
      "ComfyUI/custom_nodes/",
      "python_embeded/python.exe",
    );
    const sight = look(portable);
    expect(sight.uiFolder).toBe(join(portable, "ComfyUI"));
    expect(sight.python).toBe(join(portable, "python_embeded", "python.exe"));
  });

  test("the user's half of a ComfyUI: a folder for --base-directory, or that of ComfyUI Desktop with its environment", () => {
    const base = make(join(root, "base"), "custom_nodes/", "models/");
    expect(look(base)).toMatchObject({ ui: "comfyui", uiFolder: base, pluginsFolder: join(base, "custom_nodes"), python: null });
    expect(planInstall(look(base), "comfyui", wish()).actions).toContainEqual(
      expect.objectContaining({ kind: "link", at: place(base), to: plugin }),
    );
    const desktop = make(join(root, "Documents", "ComfyUI"), "custom_nodes/", "models/", "input/", "output/", "user/", ".venv/bin/python");
    expect(look(desktop)).toMatchObject({ ui: "comfyui", python: join(desktop, ".venv", "bin", "python") });
    // Folders of other programs that hold models, and an empty one.
    for (const files of [["models/"], ["custom_nodes/"], ["custom_nodes/", "models/", "extensions/"]])
      expect(look(make(join(root, `other-${files.length}-${files[0]?.length}`), ...files)).ui).toBeNull();
  });

  test("a virtual environment in the UI's folder", () => {
    const ui = make(comfyui(), "venv/bin/python");
    expect(look(ui).python).toBe(join(ui, "venv", "bin", "python"));
  });

  test("the Forge download: the UI in a folder of its own, its Python beside it", () => {
    const download = make(join(root, "webui_forge"), ...webui.forge.map((file) => `webui/${file}`), "system/python/python.exe");
    expect(look(download)).toMatchObject({
      ui: "forge",
      uiFolder: join(download, "webui"),
      python: join(download, "system", "python", "python.exe"),
    });
  });

  describe("the start script of a web UI on Windows", () => {
    const windows = { platform: "win32", environment: {}, home: "/home/nobody" } as const;
    const withScript = (name: string, ...lines: readonly string[]) => {
      const folder = make(join(root, name), ...webui.forge, "venv/Scripts/python.exe");
      writeFileSync(join(folder, "webui-user.bat"), ["@echo off", ...lines, "call webui.bat", ""].join("\r\n"));
      return folder;
    };

    test("as it comes, with the virtual environment beside it", () => {
      const folder = withScript("plain", "set PYTHON=", "set GIT=", "set VENV_DIR=", "set COMMANDLINE_ARGS=--xformers");
      expect(look(folder, windows)).toMatchObject({
        python: join(folder, "venv", "Scripts", "python.exe"),
        pluginsFolder: join(folder, "extensions"),
      });
    });

    test("names a virtual environment and a data folder elsewhere", () => {
      const venv = make(join(root, "my venvs", "forge"), "Scripts/python.exe");
      const data = make(join(root, "my data"), "extensions/");
      const folder = withScript("elsewhere", `set VENV_DIR=${venv}`, `set "COMMANDLINE_ARGS=--api --data-dir "${data}" --xformers"`);
      const sight = look(folder, windows);
      expect(sight).toMatchObject({ python: join(venv, "Scripts", "python.exe"), pluginsFolder: join(data, "extensions") });
      expect(planInstall(sight, "webui", wish()).actions).toContainEqual(
        expect.objectContaining({ kind: "link", at: join(data, "extensions", "refit-sidecar"), to: plugin }),
      );
    });

    test("takes a Python without an environment", () => {
      const python = make(join(root, "Python310"), "python.exe");
      const folder = withScript("no-venv", `set PYTHON="${join(python, "python.exe")}"`, "set VENV_DIR=-");
      expect(look(folder, windows).python).toBe(join(python, "python.exe"));
      expect(look(withScript("path", "set VENV_DIR=-"), windows).python).toBeNull();
    });

    test("a comment says nothing, the last line counts, and a variable is not guessed", () => {
      const folder = withScript(
        "commented",
        "@REM set VENV_DIR=-",
        "set VENV_DIR=-",
        "set VENV_DIR=%A1111_HOME%/venv",
        "set COMMANDLINE_ARGS=%COMMANDLINE_ARGS% --data-dir %HOME%/x",
      );
      expect(look(folder, windows)).toMatchObject({
        python: join(folder, "venv", "Scripts", "python.exe"),
        pluginsFolder: join(folder, "extensions"),
      });
    });

    test("webui-user.sh says the same elsewhere", () => {
      const folder = make(join(root, "linux"), ...webui.a1111, "environment/bin/python", "python/bin/python");
      writeFileSync(join(folder, "webui-user.sh"), '#venv_dir="-"\nvenv_dir="environment"\nexport COMMANDLINE_ARGS="--data-dir=data"\n');
      expect(look(folder, { ...windows, platform: "linux" })).toMatchObject({
        python: join(folder, "environment", "bin", "python"),
        pluginsFolder: join(folder, "data", "extensions"),
      });
    });
  });

  describe("ComfyUI Desktop", () => {
    const program = () =>
      make(
        join(root, "Programs", "ComfyUI"),
        "resources/app.asar",
        "resources/ComfyUI/main.py",
        "resources/ComfyUI/comfy/",
        "resources/ComfyUI/custom_nodes/",
      );
    const surroundings = () => ({ platform: "win32", environment: { APPDATA: join(root, "Roaming") }, home: root }) as const;

    test("its program is given: the plugin goes to the folder of the user, which its settings name", () => {
      const folder = make(join(root, "Documents", "ComfyUI"), "custom_nodes/", "models/", "user/", ".venv/Scripts/python.exe");
      make(join(root, "Roaming", "ComfyUI"), "config.json");
      writeFileSync(join(root, "Roaming", "ComfyUI", "config.json"), JSON.stringify({ installState: "installed", basePath: folder }));
      const found = { ui: "comfyui", uiFolder: folder, python: join(folder, ".venv", "Scripts", "python.exe") };
      expect(look(program(), surroundings())).toMatchObject(found);
      expect(look(join(program(), "resources", "ComfyUI"), surroundings())).toMatchObject(found);
      expect(look(folder, surroundings())).toMatchObject(found);
    });

    test("nothing is put into its program, which an update replaces", () => {
      for (const folder of [program(), join(program(), "resources", "ComfyUI")]) {
        const sight = look(folder, surroundings());
        expect(sight.ui).toBeNull();
        expect(() => planInstall(sight, "comfyui", wish())).toThrow(/ComfyUI Desktop the folder chosen at its first start/);
      }
      make(join(root, "Roaming", "ComfyUI"), "config.json");
      for (const text of ["", "{", "null", '{"basePath":7}', '{"basePath":"/nowhere/at/all"}']) {
        writeFileSync(join(root, "Roaming", "ComfyUI", "config.json"), text);
        expect(look(program(), surroundings()).ui).toBeNull();
      }
    });
  });

  test("a folder that is another UI than named is refused, with the option to use", () => {
    const forge = look(make(join(root, "forge"), ...webui.forge));
    for (const plan of [() => planInstall(forge, "comfyui", wish()), () => planUninstall(forge, "comfyui")])
      expect(plan).toThrow(expect.objectContaining({ code: "INSTALL_UI_OTHER", message: expect.stringMatching(/found Forge.*--webui/) }));
    expect(() => planInstall(look(comfyui()), "webui", wish())).toThrow(
      expect.objectContaining({ code: "INSTALL_UI_OTHER", message: expect.stringMatching(/found ComfyUI.*--comfyui/) }),
    );
  });

  test("another folder is no UI", () => {
    const sight = look(make(join(root, "other"), "main.py"));
    expect(sight.ui).toBeNull();
    expect(codeOf(() => planInstall(sight, "comfyui", wish()))).toBe("INSTALL_UI_UNKNOWN");
    expect(codeOf(() => planUninstall(sight, "comfyui"))).toBe("INSTALL_UI_UNKNOWN");
  });
});

describe("install and uninstall", () => {
  test.skipIf(!links)("a link is made, renewed and removed; the plugin itself stays", async () => {
    const ui = comfyui();
    for (let round = 0; round < 2; round += 1) expect(await applyPlan(planInstall(look(ui), "comfyui", wish()))).toEqual([]);
    expect(readlinkSync(place(ui))).toBe(plugin);
    await applyPlan(planUninstall(look(ui), "comfyui"));
    expect(existsSync(place(ui))).toBe(false);
    expect(existsSync(join(plugin, "__init__.py"))).toBe(true);
  });

  test.each(["ENOTSUP", "EPERM", "this system's own answer"])(
    "a disk that takes no links (%s) gets a copy, with a word about it",
    async (code) => {
      const ui = comfyui();
      const refuse = async () => Promise.reject(Object.assign(new Error("no links"), { code }));
      if (links && code.includes(" ")) return console.log("skip: links are made here");
      const makeLink = code.includes(" ") ? undefined : refuse;
      for (let round = 0; round < 2; round += 1) {
        const said = await applyPlan(planInstall(look(ui), "comfyui", wish()), undefined, makeLink);
        expect(said).toEqual([expect.stringContaining("run this command again after each update")]);
      }
      expect(lstatSync(place(ui)).isDirectory()).toBe(true);
      expect(readFileSync(join(place(ui), "sidecar-entry.txt"), "utf8")).toBe(`${entry}\n`);
      await applyPlan(planUninstall(look(ui), "comfyui"));
      expect(existsSync(place(ui))).toBe(false);
    },
  );

  test("another refusal of a link is said with the system's code", async () => {
    const refuse = async () => Promise.reject(Object.assign(new Error("full"), { code: "ENOSPC" }));
    await expect(applyPlan(planInstall(look(comfyui()), "comfyui", wish()), undefined, refuse)).rejects.toMatchObject({
      code: "INSTALL_DISK_REFUSED",
      message: expect.stringContaining("ENOSPC"),
    });
  });

  test("a copy carries the note of the sidecar's entry and no bytecode, and is removed whole", async () => {
    const ui = comfyui();
    for (let round = 0; round < 2; round += 1) await applyPlan(planInstall(look(ui), "comfyui", wish({ mode: "copy" })));
    expect(lstatSync(place(ui)).isDirectory()).toBe(true);
    expect(readFileSync(join(place(ui), "sidecar-entry.txt"), "utf8")).toBe(`${entry}\n`);
    expect(existsSync(join(place(ui), "__pycache__"))).toBe(false);
    await applyPlan(planUninstall(look(ui), "comfyui"));
    expect(existsSync(place(ui))).toBe(false);
  });

  test("a copy out of a checkout knows the families without the checkout", async () => {
    const ui = comfyui();
    const real = fileURLToPath(new URL("../../../plugin", import.meta.url));
    await applyPlan(planInstall(look(ui), "comfyui", wish({ mode: "copy", plugin: real })));
    const known = "from refit_sidecar_plugin.families import family_calls; print(len(family_calls()) > 20)";
    const python = process.env["REFIT_TEST_PYTHON"] ?? "python3";
    expect(execFileSync(python, ["-c", known], { cwd: place(ui), encoding: "utf8" }).trim()).toBe("True");
  });

  test.each(["a1111", "forge", "reforge"] as const)("%s: put into extensions, said by name, put there again, taken out", async (ui) => {
    const folder = make(join(root, ui), ...webui[ui], "extensions/other/precious.txt");
    const at = join(folder, "extensions", "refit-sidecar");
    for (let round = 0; round < 2; round += 1) {
      const plan = planInstall(look(folder), "webui", wish());
      expect(plan.notes.at(-1)).toContain({ a1111: "This is the A1111 web UI.", forge: "This is Forge.", reforge: "This is reForge." }[ui]);
      await applyPlan(plan);
      expect(existsSync(join(at, "__init__.py"))).toBe(true);
      if (links) expect(readlinkSync(at)).toBe(plugin);
    }
    await applyPlan(planUninstall(look(folder), "webui"));
    expect(existsSync(at)).toBe(false);
    expect(existsSync(join(folder, "extensions", "other", "precious.txt"))).toBe(true);
    expect(existsSync(join(plugin, "__init__.py"))).toBe(true);
    expect(codeOf(() => planUninstall(look(folder), "webui"))).toBe("INSTALL_NOT_THERE");
  });

  test.each(["link", "copy"] as const)(
    "Forge Neo before its first start: the folder of extensions is made (%s), and taken out of",
    async (mode) => {
      const folder = neo();
      const at = join(folder, "extensions", "refit-sidecar");
      for (let round = 0; round < 2; round += 1) {
        const plan = planInstall(look(folder), "webui", wish({ mode }));
        expect(plan.notes.at(-1)).toContain("This is Forge Neo.");
        await applyPlan(plan);
        expect(existsSync(join(at, "__init__.py"))).toBe(true);
      }
      await applyPlan(planUninstall(look(folder), "webui"));
      expect(existsSync(at)).toBe(false);
    },
  );

  test("a web UI installs the packages itself, and the note says when it does not", () => {
    const folder = make(join(root, "forge"), ...webui.forge);
    expect(planInstall(look(folder), "webui", wish()).notes[0]).toMatch(/Forge installs .* at its next start.*--skip-prepare-environment/);
  });

  test.skipIf(!links)("a link whose target was moved away is renewed", async () => {
    const ui = comfyui();
    symlinkSync(join(root, "gone"), place(ui), "junction");
    await applyPlan(planInstall(look(ui), "comfyui", wish()));
    expect(readlinkSync(place(ui))).toBe(plugin);
  });

  test.each(["folder", "file", ...(links ? ["link"] : [])])("somebody else's %s at the place is never touched", (kind) => {
    const ui = comfyui();
    if (kind === "file") writeFileSync(place(ui), "");
    else if (kind === "folder") make(place(ui), "precious.txt");
    else symlinkSync(make(join(root, "theirs"), "precious.txt"), place(ui), "junction");
    expect(codeOf(() => planInstall(look(ui), "comfyui", wish()))).toBe("INSTALL_PLACE_TAKEN");
    expect(codeOf(() => planUninstall(look(ui), "comfyui"))).toBe("INSTALL_PLACE_TAKEN");
  });

  test("nothing to uninstall is said", () => {
    expect(codeOf(() => planUninstall(look(comfyui()), "comfyui"))).toBe("INSTALL_NOT_THERE");
  });

  test("packages go into the UI's own Python where it is known, else the plan says how", () => {
    const sight: Sight = {
      ui: "comfyui",
      uiFolder: root,
      pluginsFolder: join(root, "custom_nodes"),
      place: { kind: "nothing" },
      python: "/ui/python",
    };
    const requirements = join(plugin, "requirements.txt");
    expect(planInstall(sight, "comfyui", wish({ packages: true })).actions.at(-1)).toEqual({
      kind: "run",
      command: ["/ui/python", "-m", "pip", "install", "-r", requirements],
    });
    expect(planInstall(sight, "comfyui", wish()).notes[0]).toContain(`/ui/python -m pip install -r "${requirements}"`);
    expect(planInstall({ ...sight, python: null }, "comfyui", wish({ packages: true })).notes[0]).toContain(
      `python -m pip install -r "${requirements}"`,
    );
  });

  test("a command that fails, or is not there, names itself", async () => {
    for (const command of [[process.execPath, "-e", "process.exit(3)"], [join(root, "none")]]) {
      await expect(applyPlan({ ui: "comfyui", actions: [{ kind: "run", command }], notes: [] })).rejects.toMatchObject({
        code: "INSTALL_COMMAND_FAILED",
        message: expect.stringContaining(command.join(" ")),
      });
    }
  });

  test("a disk that refuses is said with the system's code", async () => {
    const plan = { ui: "comfyui" as const, actions: [{ kind: "unlink" as const, path: join(root, "none") }], notes: [] };
    await expect(applyPlan(plan)).rejects.toMatchObject({ code: "INSTALL_DISK_REFUSED", evidence: { code: "ENOENT" } });
  });
});

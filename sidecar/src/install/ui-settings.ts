// What a UI's own files say about where things lie: A1111's and Forge's start script, ComfyUI Desktop's settings. Read only, and believed only where the place that they name is there.

import { existsSync, readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";

/** What `look` reads besides the folder itself; tests give their own. */
export interface Surroundings {
  readonly platform: NodeJS.Platform;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly home: string;
}

export const thisComputer = (): Surroundings => ({ platform: process.platform, environment: process.env, home: homedir() });

/** Start scripts and settings are a few KiB. */
const maxBytes = 256 * 1024;

function textOf(path: string): string | null {
  try {
    return statSync(path).size <= maxBytes ? readFileSync(path, "utf8") : null;
  } catch {
    return null;
  }
}

export interface StartScript {
  /** Folder of the virtual environment; null: the UI's own `venv`. */
  readonly venv: string | null;
  /** The script turns virtual environments off and takes this Python, or the one on PATH (null). */
  readonly plainPython: { readonly path: string | null } | null;
  /** Folder of `--data-dir`, which holds `extensions` then; null: the UI's own. */
  readonly dataFolder: string | null;
}

/** Windows: `set NAME=value`, comments are `@REM`. Elsewhere: `[export] name="value"`, comments are `#`. The last one counts. */
function assigned(text: string, name: string, platform: NodeJS.Platform): string | null {
  const line =
    platform === "win32"
      ? new RegExp(String.raw`^[ \t]*@?set[ \t]+"?${name}=(.*?)"?[ \t]*$`, "gim")
      : new RegExp(String.raw`^[ \t]*(?:export[ \t]+)?${name}=(.*?)[ \t]*$`, "gm");
  const value = [...text.replaceAll("\r", "").matchAll(line)].at(-1)?.[1]?.trim();
  return value === undefined ? null : value.replace(/^(["'])(.*)\1$/, "$2").trim() || null;
}

/** `%~dp0` and `%CD%` are the script's folder. A value with another variable in it is not known here. */
function placeOf(value: string | null, folder: string): string | null {
  if (value === null) return null;
  const plain = value.replaceAll('"', "").replace(/%~dp0%?|%CD%[\\/]?/gi, "");
  if (/[%$`]/.test(plain)) return null;
  return isAbsolute(plain) ? plain : join(folder, plain);
}

/** Reads `webui-user.bat` (Windows) or `webui-user.sh` of a web UI's folder. */
export function startScriptOf(uiFolder: string, { platform }: Surroundings): StartScript {
  const windows = platform === "win32";
  const text = textOf(join(uiFolder, windows ? "webui-user.bat" : "webui-user.sh")) ?? "";
  const read = (windowsName: string, otherName: string) => assigned(text, windows ? windowsName : otherName, platform);
  const venv = read("VENV_DIR", "venv_dir");
  const python = placeOf(read("PYTHON", "python_cmd"), uiFolder);
  const words = read("COMMANDLINE_ARGS", "COMMANDLINE_ARGS") ?? "";
  const [, quoted, bare] = /--data-dir[= ](?:"([^"]+)"|(\S+))/.exec(words) ?? [];
  return {
    venv: venv === "-" ? null : placeOf(venv, uiFolder),
    plainPython: venv === "-" ? { path: python !== null && existsSync(python) ? python : null } : null,
    dataFolder: placeOf(quoted ?? bare ?? null, uiFolder),
  };
}

/** Folder of ComfyUI Desktop's settings, by the platform's custom. */
function desktopSettingsFolder({ platform, environment, home }: Surroundings): string {
  if (platform === "win32") return join(environment["APPDATA"] ?? join(home, "AppData", "Roaming"), "ComfyUI");
  if (platform === "darwin") return join(home, "Library", "Application Support", "ComfyUI");
  return join(environment["XDG_CONFIG_HOME"] ?? join(home, ".config"), "ComfyUI");
}

/** The given folder is the program of ComfyUI Desktop, or lies in it: `resources/ComfyUI` beside `app.asar`. */
function isDesktopProgram(given: string): boolean {
  return [join(given, "resources"), join(given, "Contents", "Resources"), given, dirname(given)].some(
    (resources) => existsSync(join(resources, "app.asar")) && existsSync(join(resources, "ComfyUI", "main.py")),
  );
}

/**
 * ComfyUI Desktop keeps custom nodes and its Python in the folder that the user chose at its first start, not in its program.
 * Returns that folder when `given` is the program, null when it is not the program or the settings name no folder.
 */
export function desktopUserFolder(given: string, surroundings: Surroundings): string | null {
  if (!isDesktopProgram(given)) return null;
  try {
    const settings: unknown = JSON.parse(textOf(join(desktopSettingsFolder(surroundings), "config.json")) ?? "null");
    const base = typeof settings === "object" && settings !== null && "basePath" in settings ? settings.basePath : null;
    return typeof base === "string" && existsSync(base) ? base : null;
  } catch {
    return null;
  }
}

/** Nothing is installed into the program of ComfyUI Desktop: an update of it replaces the whole folder. */
export const isDesktopWithoutFolder = (given: string, surroundings: Surroundings): boolean =>
  isDesktopProgram(given) && desktopUserFolder(given, surroundings) === null;

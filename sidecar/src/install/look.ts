import { existsSync, lstatSync, readFileSync, readlinkSync } from "node:fs";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { pluginFolderName } from "./plan.ts";
import type { Interface, Place, Sight } from "./types.ts";
import { desktopUserFolder, isDesktopWithoutFolder, startScriptOf, thisComputer } from "./ui-settings.ts";
import type { StartScript, Surroundings } from "./ui-settings.ts";

/** The line by which a plugin folder is known to be ours. */
const ourName = /^name = "refit-sidecar"$/m;
/** Far above the plugin's own pyproject.toml. */
const maxMetadataBytes = 64 * 1024;

const has = (folder: string, ...names: readonly string[]) => names.every((name) => existsSync(join(folder, name)));

/** Forge Neo says so itself: `version = "neo"`. */
function isNeo(folder: string): boolean {
  try {
    const path = join(folder, "modules_forge", "forge_version.py");
    return lstatSync(path).size <= maxMetadataBytes && /^version\s*=\s*(["'])neo\1\s*$/m.test(readFileSync(path, "utf8"));
  } catch {
    return false;
  }
}

function interfaceAt(folder: string): Interface | null {
  if (has(folder, "main.py", "comfy", "custom_nodes")) return "comfyui";
  // The user's half of a ComfyUI whose program lies elsewhere: a folder for --base-directory, or what ComfyUI Desktop asks for at its first start.
  if (has(folder, "custom_nodes", "models") && !has(folder, "extensions")) return "comfyui";
  if (!has(folder, "launch.py", join("modules", "launch_utils.py"))) return null;
  // Neo makes the folder of extensions when it first needs it.
  if (isNeo(folder)) return "neo";
  if (!has(folder, "extensions")) return null;
  if (!has(folder, "modules_forge")) return "a1111";
  return has(folder, "ldm_patched") ? "reforge" : "forge";
}

/** A portable download holds the UI in a folder of its own, with its Python beside it. */
function findUi(given: string): string {
  for (const inner of ["ComfyUI", "webui"])
    if (interfaceAt(given) === null && interfaceAt(join(given, inner)) !== null) return join(given, inner);
  return given;
}

function isOurs(folder: string): boolean {
  try {
    const path = join(folder, "pyproject.toml");
    return lstatSync(path).size <= maxMetadataBytes && ourName.test(readFileSync(path, "utf8"));
  } catch {
    return false;
  }
}

function placeAt(path: string): Place {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return { kind: "nothing" };
  if (found.isSymbolicLink()) {
    const target = readlinkSync(path);
    const to = isAbsolute(target) ? target : resolve(dirname(path), target);
    // A link whose target was moved away can only have been ours: it carries our name.
    return { kind: "link", to, ours: !existsSync(to) || isOurs(to) };
  }
  return found.isDirectory() ? { kind: "folder", ours: isOurs(path) } : { kind: "file" };
}

/** A virtual environment on Windows, and elsewhere. */
const pythonsIn = (venv: string) => [join(venv, "Scripts", "python.exe"), join(venv, "bin", "python")];

function pythonOf(uiFolder: string, script: StartScript | null): string | null {
  if (script?.plainPython) return script.plainPython.path;
  const candidates = [
    ...(script?.venv ? pythonsIn(script.venv) : []),
    join(uiFolder, "..", "python_embeded", "python.exe"),
    join(uiFolder, "..", "system", "python", "python.exe"),
    ...["venv", ".venv"].flatMap((venv) => pythonsIn(join(uiFolder, venv))),
  ];
  return candidates.find((path) => existsSync(path)) ?? null;
}

/** Reads what a plan needs to know of a UI's folder. */
export function look(given: string, surroundings: Surroundings = thisComputer()): Sight {
  const named = resolve(given);
  const uiFolder = findUi(desktopUserFolder(named, surroundings) ?? named);
  const ui = isDesktopWithoutFolder(named, surroundings) ? null : interfaceAt(uiFolder);
  const web = ui !== null && ui !== "comfyui";
  const script = web ? startScriptOf(uiFolder, surroundings) : null;
  const pluginsFolder = join(script?.dataFolder ?? uiFolder, web ? "extensions" : "custom_nodes");
  return { ui, uiFolder, pluginsFolder, place: placeAt(join(pluginsFolder, pluginFolderName)), python: pythonOf(uiFolder, script) };
}

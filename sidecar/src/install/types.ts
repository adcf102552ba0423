// What the installer sees and decides, as plain data.

/** A user interface that the plugin has a host for. reForge keeps Forge's older patcher, Forge Neo (sd-webui-forge-classic, branch neo) ComfyUI's newer one; all are entered through `extensions/`. */
export type Interface = "comfyui" | "a1111" | "forge" | "reforge" | "neo";

/** What the user says the folder is: A1111, Forge, reForge and Forge Neo are told apart by what is in it. */
export type Named = "comfyui" | "webui";

/** What lies at the plugin's place in the UI. `ours`: a link to a plugin of ours, or a folder that carries our name. */
export type Place =
  | { readonly kind: "nothing" }
  | { readonly kind: "link"; readonly to: string; readonly ours: boolean }
  | { readonly kind: "folder"; readonly ours: boolean }
  | { readonly kind: "file" };

/** Everything that a plan depends on, read once. */
export interface Sight {
  /** null: the folder is none of the known UIs. */
  readonly ui: Interface | null;
  /** The UI's own folder: the given one, the one inside a portable download, or the user's folder of ComfyUI Desktop when its program was given. */
  readonly uiFolder: string;
  /** Where plugins go: `custom_nodes` or `extensions` of the UI. */
  readonly pluginsFolder: string;
  readonly place: Place;
  /** The UI's own Python, when its place is known: embedded in the portable download, a virtual environment in the UI's folder, or what its start script names. */
  readonly python: string | null;
}

/** A small file of a copied plugin that says where the sidecar's entry file is. */
export interface EntryNote {
  readonly file: string;
  readonly text: string;
}

export type InstallAction =
  /** A link where the platform allows one to everybody (a junction on Windows). `note` is written into the copy that is made where the disk takes no links (exFAT, some network drives). */
  | { readonly kind: "link"; readonly at: string; readonly to: string; readonly note: EntryNote }
  | { readonly kind: "copy"; readonly from: string; readonly to: string }
  | { readonly kind: "write"; readonly path: string; readonly text: string }
  /** Removes the link itself, never what it points to. */
  | { readonly kind: "unlink"; readonly path: string }
  | { readonly kind: "remove"; readonly path: string }
  /** Installs the plugin's Python packages into the UI's own Python. */
  | { readonly kind: "run"; readonly command: readonly string[] };

export interface InstallPlan {
  readonly ui: Interface;
  readonly actions: readonly InstallAction[];
  /** What the user has still to do, in the order of doing. */
  readonly notes: readonly string[];
}

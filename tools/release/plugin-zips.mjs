// The plugin as UIs take it: an archive for ComfyUI's registry and one for the extensions folder of A1111, Forge and reForge. Both carry the sidecar (plugin/sidecar), so that nothing else is needed
// but what the UI's own pip installs: Node and a WebSocket client.
import { join } from "node:path";
import { filesOf, writeZip } from "./archive.mjs";

/** What only the other UI reads. The web UIs serve the dashboard, too. */
const webuiOnly = /^(scripts|javascript)\/|^(metadata\.ini|preload\.py|style\.css)$|^web\/refit\/webui\.mjs$/;
const comfyuiOnly = /^(web\/docs|example_workflows)\/|^web\/refit\.js$|^web\/refit\/comfyui\.mjs$/;

/** The registry unpacks into a folder of its own; an extension is unpacked by hand into `extensions/`, so it brings its folder. */
export const pluginZips = [
  { ui: "comfyui", prefix: "", left: webuiOnly },
  { ui: "webui", prefix: "refit-sidecar/", left: comfyuiOnly },
];

/** @returns {Promise<{name: string, size: number}[]>} the archives in `out` */
export async function writePluginZips({ version, payload, out, epoch }) {
  const whole = filesOf(payload);
  const made = [];
  for (const { ui, prefix, left } of pluginZips) {
    const files = new Map();
    for (const [name, path] of whole) {
      const inPlugin = name.startsWith("plugin/") ? name.slice("plugin/".length) : null;
      if (inPlugin === null) files.set(`${prefix}sidecar/${name}`, path);
      else if (!left.test(inPlugin)) files.set(`${prefix}${inPlugin}`, path);
    }
    for (const file of ["LICENSE", "THIRD-PARTY-NOTICES.txt"]) files.set(`${prefix}${file}`, join(payload, file));
    const name = `refit-sidecar-${ui}-${version}.zip`;
    made.push({ name, size: await writeZip(join(out, name), files, epoch) });
  }
  return made;
}

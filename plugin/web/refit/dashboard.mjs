// The panel as a page of its own, for a second screen or another computer. No workflow or prompt here, so no command that needs one.

import { createClient } from "./client.mjs";
import { commandList, engineCommands } from "./engine-commands.mjs";
import { createPanel } from "./panel.mjs";
import { createStore } from "./store.mjs";

// A1111's and Forge's server has the calls beside these files; ComfyUI's has them under /api, with its extensions' files elsewhere.
const beside = import.meta.url.endsWith("/refit-sidecar/web/refit/dashboard.mjs");
const calls = new URL(beside ? "../../" : "../../../api/refit/", import.meta.url);
const ui = beside ? "the web UI" : "ComfyUI";

const client = createClient((path, options) => fetch(new URL(`.${path}`, calls), options), ui);
const store = createStore(client);
const message = document.createElement("p");
const toasts = {
  show: (_severity, summary, detail) => {
    message.textContent = `${summary}: ${detail}`;
  },
};
const leftOut = new Set(["Refit.Warm", "Refit.OpenDashboard"]);
const definitions = engineCommands({
  client,
  warm: { label: "Warm", work: async () => "" },
  idle: `Make a picture in ${ui} first.`,
}).filter(([id]) => !leftOut.has(id));

const host = document.getElementById("panel");
createPanel(host, { store, commands: commandList(definitions, { store, toasts }), ui });
host.before(message);
// This page has no event channel of its own.
setInterval(() => store.refresh(), 2000);

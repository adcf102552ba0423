// The dashboard through a UI's own server, for a second screen or another computer. No workflow or prompt here, so no command that needs one.

import { commandList, engineCommands } from "../commands/engine-commands.ts";
import { createDashboard } from "../parts/dashboard.tsx";
import { notices } from "../parts/notices.tsx";
import { createStore } from "../state/store.ts";
import { createRelay } from "../wire/relay.ts";

// A1111's and Forge's server has the calls beside these files; ComfyUI's has them under /api, with its extensions' files elsewhere.
const beside = import.meta.url.includes("/refit-sidecar/web/refit/");
const calls = new URL(beside ? "../../" : "../../../api/refit/", import.meta.url);
const ui = beside ? "the web UI" : "ComfyUI";
const everyMs = 2000;

const client = createRelay((path, options) => fetch(new URL(`.${path}`, calls), options), ui);
const store = createStore(client);
const toasts = notices();
const commands = commandList(engineCommands({ client, idle: `Make a picture in ${ui} first.` }), { store, toasts });

createDashboard(document.getElementById("app") ?? document.body, { store, commands, ui, fits: () => null, notices: toasts });
// This page has no event channel of its own.
setInterval(() => void (document.hidden || store.refresh()), everyMs);

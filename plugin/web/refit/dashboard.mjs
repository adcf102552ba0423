// The panel as a page of its own, for a second screen or another computer. No workflow here, so no command that needs one.

import { createClient } from "./client.mjs";
import { createCommands } from "./commands.mjs";
import { createPanel } from "./panel.mjs";
import { createStore } from "./store.mjs";

const base = new URL("../../../", import.meta.url);
const client = createClient((path, options) => fetch(new URL(`api${path}`, base), options));
const store = createStore(client);
const message = document.createElement("p");
const toasts = { show: (_severity, summary, detail) => { message.textContent = `${summary}: ${detail}`; } };
const commands = createCommands({ app: {}, client, store, toasts });
const needsWorkflow = new Set(["Refit.UseEngines", "Refit.Warm", "Refit.ShowPanel", "Refit.OpenDashboard"]);
commands.list = commands.list.filter((command) => !needsWorkflow.has(command.id));

const host = document.getElementById("panel");
createPanel(host, { store, commands });
host.before(message);
// This page has no event channel of its own.
setInterval(() => store.refresh(), 2000);

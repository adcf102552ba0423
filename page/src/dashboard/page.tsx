// The sidecar's own dashboard.

import { commandList, engineCommands } from "../commands/engine-commands.ts";
import { createDashboard } from "../parts/dashboard.tsx";
import { notices } from "../parts/notices.tsx";
import { createStore } from "../state/store.ts";
import { createSocket } from "../wire/socket.ts";

const client = createSocket();
const store = createStore(client);
const toasts = notices();
const definitions = engineCommands({
  client,
  warm: { label: "Warm", work: async () => "" },
  idle: "An engine is loaded by the first run.",
  dashboard: null,
});
const leftOut = new Set(["Refit.Warm", "Refit.OpenDashboard"]);
const commands = commandList(
  definitions.filter(([id]) => !leftOut.has(id)),
  { store, toasts },
);

store.follow(client.channel);
createDashboard(document.getElementById("app") ?? document.body, { store, commands, ui: "the UI", fits: () => null, notices: toasts });
await client.start();

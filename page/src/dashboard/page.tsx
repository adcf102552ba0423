// The sidecar's own dashboard.

import { commandList, engineCommands } from "../commands/engine-commands.ts";
import { createDashboard } from "../parts/dashboard.tsx";
import { notices } from "../parts/notices.tsx";
import { createStore } from "../state/store.ts";
import { createSocket } from "../wire/socket.ts";

const client = createSocket();
const store = createStore(client);
const toasts = notices();
const commands = commandList(engineCommands({ client, idle: "An engine is loaded by the first run." }), { store, toasts });

store.follow(client.channel);
createDashboard(document.getElementById("app") ?? document.body, { store, commands, ui: "the UI", fits: () => null, notices: toasts });
await client.start();

// Refit Sidecar in ComfyUI's page: one entry, loaded by ComfyUI; everything else is in refit/*.mjs, which ComfyUI does not load by itself.
// The page talks to ComfyUI's own server only. Fields that an older frontend does not know are ignored by it, so newer ones are simply declared.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { createClient } from "./refit/client.mjs";
import { comfyuiMessages } from "./refit/comfyui-messages.mjs";
import { createCommands } from "./refit/commands.mjs";
import { createPanel } from "./refit/panel.mjs";
import { migrateWorkflow } from "./refit/migrate.mjs";
import { createStore } from "./refit/store.mjs";
import { createToasts } from "./refit/toasts.mjs";

const style = document.createElement("link");
style.rel = "stylesheet";
style.href = new URL("./refit/refit.css", import.meta.url).href;
document.head.append(style);

const client = createClient((path, options) => api.fetchApi(`/refit${path}`, options), "ComfyUI");
const store = createStore(client);
const toasts = createToasts(comfyuiMessages(app), (id) => store.nameOf(id));
const commands = createCommands({ app, client, store, toasts });
const tabId = "refit-sidecar";

/** Files often come in numbers; the lists of all nodes are asked for once. The quieter call, where there is one, shows no message of its own. */
let listsTimer = null;
function refreshLists() {
  clearTimeout(listsTimer);
  listsTimer = setTimeout(() => (app.reloadNodeDefs ?? app.refreshComboInNodes)?.call(app), 500);
}

/** The page draws the badges anew when something that it watches changes, and it watches its own sidebar tabs. */
const ownTab = () => app.extensionManager?.getSidebarTabs?.().find((tab) => tab.id === tabId);
store.subscribe(() => {
  const tab = ownTab();
  if (tab) tab.refitChanges = (tab.refitChanges ?? 0) + 1;
});

function badgeText() {
  void ownTab()?.refitChanges;
  const { state } = store;

  if (state.facts.connection.state !== "connected") return { label: "REFIT", text: "offline", variant: "warning" };
  const run = state.facts.lastRun;
  if (run === null) return { label: "REFIT", text: "ready", variant: "info" };
  return run.served_by === "engine"
    ? { label: "REFIT", text: "engine", variant: "info" }
    : { label: "REFIT", text: "in ComfyUI", variant: "warning" };
}

app.registerExtension({
  name: "refit-sidecar",
  commands: commands.list,
  menuCommands: [{ path: ["Extensions", "Refit"], commands: commands.list.map((command) => command.id) }],
  settings: [
    {
      id: "Refit.Toasts.NewAdapters",
      name: "Tell when a new LoRA is ready",
      category: ["Refit", "Messages", "New LoRAs"],
      type: "boolean",
      defaultValue: true,
    },
    {
      id: "Refit.Toasts.Fallback",
      name: "Tell when a run was not on an engine",
      category: ["Refit", "Messages", "Runs in ComfyUI"],
      type: "boolean",
      defaultValue: true,
    },
  ],
  aboutPageBadges: [{ label: "Refit Sidecar", url: "https://github.com/refit-sidecar/refit-sidecar", icon: "pi pi-bolt" }],
  actionBarButtons: [
    { icon: "icon-[lucide--zap]", label: "Refit", tooltip: "Engines, LoRAs and refits", onClick: () => commands.run("Refit.ShowPanel") },
  ],
  topbarBadges: [
    {
      get text() {
        return badgeText().text;
      },
      get label() {
        return badgeText().label;
      },
      get variant() {
        return badgeText().variant;
      },
      tooltip: "Where the last run was done",
    },
  ],

  async setup() {
    let panel = null;
    app.extensionManager.registerSidebarTab({
      id: tabId,
      icon: "pi pi-bolt",
      title: "Refit",
      label: "Refit",
      tooltip: "Refit Sidecar: engines, LoRAs, refits",
      type: "custom",
      iconBadge: () => (store.state.facts.connection.state === "connected" ? null : "!"),
      render(element) {
        panel = createPanel(element, { store, commands, ui: "ComfyUI" });
      },
      destroy() {
        panel?.destroy();
        panel = null;
      },
    });
    store.follow(api);
    store.onEvent((event) => toasts.tell(event));
    store.onEvent((event) => {
      if (event.type === "catalog.changed" && event.added.length + event.removed.length > 0) refreshLists();
    });
    await store.refresh();
  },

  beforeConfigureGraph(workflow) {
    migrateWorkflow(workflow);
  },

  nodeCreated(node) {
    if (node.comfyClass === "RefitEngineStatus" || node.comfyClass === "RefitWarmEngine" || node.comfyClass === "RefitExportLora")
      commands.showTextOn(node);
  },
});

// Refit Sidecar in ComfyUI's page. web/refit.js, which ComfyUI loads by itself, hands over the frontend's own objects.
// The page talks to ComfyUI's own server only. Fields that an older frontend does not know are ignored by it, so newer ones are simply declared.

import { comfyuiMessages } from "../messages/comfyui-messages.ts";
import { createToasts } from "../messages/toasts.ts";
import { createPanel } from "../parts/panel.tsx";
import { createStore } from "../state/store.ts";
import { createRelay } from "../wire/relay.ts";
import { createCommands, showTextOn } from "./commands.ts";
import type { Api, App, GraphNode } from "./frontend.ts";
import { migrateWorkflow } from "./migrate.ts";
import { addLoras, type WantedLora } from "./add-loras.ts";
import { isQuiet, setQuiet } from "./quiet.ts";
import { settings, takeSettings } from "./settings.ts";
import { followTheme } from "./theme.ts";
import { familiesOf, onFileChosen } from "./workflow.ts";

const tabId = "refit-sidecar";
const reporting = new Set(["RefitEngineStatus", "RefitWarmEngine", "RefitExportLora"]);

/** Registers the extension. `web` is the folder of web/refit.js, as a URL. */
export function start(app: App, api: Api, web: URL): void {
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = new URL("./refit/refit.css", web).href;
  document.head.append(style);

  const client = createRelay((path, options) => api.fetchApi(`/refit${path}`, options), "ComfyUI");
  const store = createStore(client);
  const toasts = createToasts(comfyuiMessages(app), (id) => store.nameOf(id));
  const commands = createCommands({ app, client, store, toasts, dashboard: new URL("./dashboard.html", web) });

  /** Files often come in numbers; the lists of all nodes are asked for once. The quieter call, where there is one, shows no message of its own. */
  let listsTimer: ReturnType<typeof setTimeout> | undefined;
  function refreshLists(): void {
    clearTimeout(listsTimer);
    listsTimer = setTimeout(() => (app.reloadNodeDefs ?? app.refreshComboInNodes)?.call(app), 500);
  }

  /** The page draws the badges anew when something that it watches changes, and it watches its own sidebar tabs. */
  const ownTab = () => app.extensionManager?.getSidebarTabs?.().find((tab) => tab.id === tabId);
  let badged = "";
  store.subscribe(() => {
    const tab = ownTab();
    const now = JSON.stringify(badge());
    if (!tab || now === badged) return;
    badged = now;
    tab.refitChanges = (tab.refitChanges ?? 0) + 1;
  });

  function badge(): { readonly text: string; readonly variant: string } {
    void ownTab()?.refitChanges;
    const { facts } = store.state;
    if (facts.connection.state !== "connected") return { text: "offline", variant: "warning" };
    if (facts.lastRun === null) return { text: "ready", variant: "info" };
    return facts.lastRun.served_by === "engine" ? { text: "engine", variant: "info" } : { text: "in ComfyUI", variant: "warning" };
  }

  function quieten(quiet: boolean): void {
    setQuiet(app, quiet);
    store.workflowChanged();
  }

  const add = (loras: readonly WantedLora[]) => toasts.show("success", "LoRAs", addLoras(app, loras), 4000);
  let panel: ReturnType<typeof createPanel> | null = null;
  let unfollow: (() => void) | null = null;
  app.registerExtension({
    name: "refit-sidecar",
    commands: commands.list,
    menuCommands: [{ path: ["Extensions", "Refit"], commands: commands.list.map((command) => command.id) }],
    settings: settings(store),
    aboutPageBadges: [{ label: "Refit Sidecar", url: "https://github.com/refit-sidecar/refit-sidecar", icon: "pi pi-bolt" }],
    actionBarButtons: [
      { icon: "icon-[lucide--zap]", label: "Refit", tooltip: "Engines, LoRAs and refits", onClick: () => commands.run("Refit.ShowPanel") },
    ],
    topbarBadges: [
      {
        label: "REFIT",
        get text() {
          return badge().text;
        },
        get variant() {
          return badge().variant;
        },
        tooltip: "Where the last run was done",
      },
    ],

    async setup() {
      app.extensionManager.registerSidebarTab({
        id: tabId,
        icon: "pi pi-bolt",
        title: "Refit",
        label: "Refit",
        tooltip: "Refit Sidecar: engines, LoRAs, refits",
        type: "custom",
        iconBadge: () => (store.state.facts.connection.state === "connected" ? null : "!"),
        render(element: HTMLElement) {
          unfollow = followTheme(element);
          panel = createPanel(element, {
            store,
            commands,
            ui: "ComfyUI",
            fits: () => familiesOf(app, store.state.catalog),
            actions: [{ label: "Add to the workflow", run: ({ name }) => add([{ name, strength: 1 }]) }],
            workflow: { add, isQuiet: () => isQuiet(app), setQuiet: quieten },
          });
        },
        destroy() {
          panel?.destroy();
          unfollow?.();
          panel = unfollow = null;
        },
      });
      store.follow(api);
      store.onEvent((event) => void toasts.tell(event));
      store.onEvent((event) => {
        if (event.type === "catalog.changed" && event.added.length + event.removed.length > 0) refreshLists();
      });
      await store.refresh();
    },

    beforeConfigureGraph: migrateWorkflow,
    afterConfigureGraph: () => store.workflowChanged(),

    nodeCreated(node: GraphNode) {
      takeSettings(app, node);
      onFileChosen(node, () => store.workflowChanged());
      if (reporting.has(node.comfyClass ?? "")) showTextOn(node);
    },
  });
}

// ComfyUI's commands for the menu, the palette and the panel's buttons. Each does one thing and says how it went.

import { commandList, engineCommands, type Commands, type Definition } from "../commands/engine-commands.ts";
import type { Toasts } from "../messages/toasts.ts";
import type { Store } from "../state/store.ts";
import type { Relay } from "../wire/relay.ts";
import { putOnEngines } from "./convert.ts";
import type { App, GraphNode } from "./frontend.ts";
import { widgetOf } from "./graphs.ts";
import { checkpointsOf } from "./workflow.ts";

interface Parts {
  readonly app: App;
  readonly client: Relay;
  readonly store: Store;
  readonly toasts: Toasts;
  readonly dashboard: URL;
}

export function createCommands({ app, client, store, toasts, dashboard }: Parts): Commands {
  async function warm(): Promise<string> {
    const names = checkpointsOf(app);
    if (names.length === 0) return "The workflow has no checkpoint loader.";
    for (const name of names) await client.warm(name);
    return `Getting ready in the background: ${names.join(", ")}.`;
  }

  const warming = { label: "Warm engines of this workflow", work: warm };
  const definitions: Definition[] = [
    ["Refit.UseEngines", "Use engines in this workflow", "pi pi-bolt", async () => putOnEngines(app)],
    ...engineCommands({ client, warm: warming, idle: "Run a workflow, or press Warm.", dashboard }),
    [
      "Refit.ShowPanel",
      "Show the Refit panel",
      "pi pi-window-maximize",
      async () => {
        await app.extensionManager.command?.execute?.("Workspace.ToggleSidebarTab.refit-sidecar");
        return "";
      },
    ],
  ];
  return commandList(definitions, { store, toasts });
}

/** Text results (status, warm, export) stay visible on their node. */
export function showTextOn(node: GraphNode): void {
  const before = node.onExecuted;
  node.onExecuted = function onExecuted(this: GraphNode, output) {
    before?.call(this, output);
    const text = (output?.text ?? []).join("\n");
    let report = widgetOf(this, "report");
    if (!report) {
      const area = document.createElement("textarea");
      area.readOnly = true;
      area.className = "refit-report";
      report = this.addDOMWidget?.("report", "refit-report", area, { serialize: false, getMinHeight: () => 90 });
    }
    if (report?.element) report.element.value = text;
  };
}

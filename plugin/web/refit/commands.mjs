// ComfyUI's commands for the menu, the palette and the panel's buttons. Each does one thing and says how it went.

import { putOnEngines } from "./convert.mjs";
import { allNodes } from "./graphs.mjs";
import { commandList, engineCommands } from "./engine-commands.mjs";

export function createCommands({ app, client, store, toasts }) {
  /** Checkpoints named by loader nodes of the open workflow, subgraphs included. */
  function checkpointsInWorkflow() {
    const names = allNodes(app).flatMap((node) =>
      (node.widgets ?? []).filter((widget) => ["ckpt_name", "unet_name"].includes(widget.name)).map((widget) => widget.value),
    );
    return [...new Set(names)];
  }

  async function warm() {
    const names = checkpointsInWorkflow();
    if (names.length === 0) return "The workflow has no checkpoint loader.";
    for (const name of names) await client.warm(name);
    return `Getting ready in the background: ${names.join(", ")}.`;
  }

  const definitions = [
    ["Refit.UseEngines", "Use engines in this workflow", "pi pi-bolt", async () => putOnEngines(app)],
    ...engineCommands({ client, warm: { label: "Warm engines of this workflow", work: warm }, idle: "Run a workflow, or press Warm." }),
    [
      "Refit.ShowPanel",
      "Show the Refit panel",
      "pi pi-window-maximize",
      async () => {
        await app.extensionManager.command?.execute?.("Workspace.ToggleSidebarTab.refit-sidecar");
      },
    ],
  ];

  return {
    ...commandList(definitions, { store, toasts }),
    /** Text results (status, warm, export) stay visible on their node. */
    showTextOn(node) {
      const before = node.onExecuted;
      node.onExecuted = function onExecuted(output) {
        before?.call(this, output);
        const text = (output?.text ?? []).join("\n");
        let widget = this.widgets?.find((one) => one.name === "report");
        if (!widget) {
          const area = document.createElement("textarea");
          area.readOnly = true;
          area.className = "refit-report";
          widget = this.addDOMWidget("report", "refit-report", area, { serialize: false, getMinHeight: () => 90 });
        }
        widget.element.value = text;
      };
    },
  };
}

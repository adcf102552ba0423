// Commands for the menu, the palette and the panel's buttons. Each does one thing and says how it went.

import { putOnEngines } from "./convert.mjs";

export function createCommands({ app, client, store, toasts }) {
  /** Runs `work`, then refreshes; its returned text is shown. */
  const doing = (label, work) => async () => {
    try {
      const text = await work();
      if (text) toasts.show("success", label, text, 4000);
    } catch (error) {
      toasts.show("error", label, error.message);
    }
    await store.refresh();
  };

  async function forEachEngine(method) {
    const { engines } = await client.read("engine.list");
    if (engines.length === 0) return "No engine is loaded. Run a workflow, or press Warm.";
    await Promise.all(engines.map((engine) => client.change(method, { engine: engine.id })));
    return `Started for ${engines.length} engine${engines.length === 1 ? "" : "s"}.`;
  }

  /** Checkpoints named by loader nodes of the open workflow. */
  function checkpointsInWorkflow() {
    const names = (app.graph?._nodes ?? []).flatMap((node) => (node.widgets ?? []).filter((widget) => ["ckpt_name", "unet_name"].includes(widget.name)).map((widget) => widget.value));
    return [...new Set(names)];
  }

  const definitions = [
    ["Refit.UseEngines", "Use engines in this workflow", "pi pi-bolt", async () => putOnEngines(app)],
    ["Refit.Warm", "Warm engines of this workflow", "pi pi-play", async () => {
      const names = checkpointsInWorkflow();
      if (names.length === 0) return "The workflow has no checkpoint loader.";
      for (const name of names) await client.warm(name);
      return `Getting ready in the background: ${names.join(", ")}.`;
    }],
    ["Refit.RefitNow", "Refit now", "pi pi-refresh", async () => forEachEngine("engine.refit")],
    ["Refit.PauseWatching", "Pause or resume watching folders", "pi pi-pause", async () => {
      const { watch } = await client.read("status");
      await client.change(watch.paused ? "watch.resume" : "watch.pause");
      return watch.paused ? "Folders are watched again." : "Changes in the folders are ignored until resumed.";
    }],
    ["Refit.FreeMemory", "Free VRAM of engines", "pi pi-eraser", async () => {
      const { freed, queued, bytes } = await client.change("engine.free", { engine: null });
      return `${freed.length} freed (${(bytes / 2 ** 20).toFixed(0)} MiB)${queued.length > 0 ? `, ${queued.length} will be when its run ends` : ""}.`;
    }],
    ["Refit.Rebuild", "Rebuild engines", "pi pi-wrench", async () => forEachEngine("engine.rebuild")],
    ["Refit.OpenDashboard", "Open dashboard", "pi pi-external-link", async () => {
      window.open(new URL("../dashboard.html", import.meta.url), "_blank", "noopener");
    }],
    ["Refit.ShowPanel", "Show the Refit panel", "pi pi-window-maximize", async () => {
      await app.extensionManager.command?.execute?.("Workspace.ToggleSidebarTab.refit-sidecar");
    }],
  ];
  const functions = new Map(definitions.map(([id, label, , work]) => [id, doing(label, work)]));

  return {
    list: definitions.map(([id, label, icon]) => ({ id, label, icon, tooltip: label, function: functions.get(id) })),
    run: (id) => functions.get(id)(),
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

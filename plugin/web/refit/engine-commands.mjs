// What every UI's page can have done. A command: [id, label, icon, work]; work returns the text that tells how it went.

/** `warm`: the label, and the work of getting ready what the user has chosen; `idle` tells how an engine comes to be loaded. */
export function engineCommands({ client, warm, idle }) {
  async function forEachEngine(method) {
    const { engines } = await client.read("engine.list");
    if (engines.length === 0) return `No engine is loaded. ${idle}`;
    await Promise.all(engines.map((engine) => client.change(method, { engine: engine.id })));
    return `Started for ${engines.length} engine${engines.length === 1 ? "" : "s"}.`;
  }

  return [
    ["Refit.Warm", warm.label, "pi pi-play", warm.work],
    ["Refit.RefitNow", "Refit now", "pi pi-refresh", async () => forEachEngine("engine.refit")],
    [
      "Refit.PauseWatching",
      "Pause or resume watching folders",
      "pi pi-pause",
      async () => {
        const { watch } = await client.read("status");
        await client.change(watch.paused ? "watch.resume" : "watch.pause");
        return watch.paused ? "Folders are watched again." : "Changes in the folders are ignored until resumed.";
      },
    ],
    [
      "Refit.FreeMemory",
      "Free VRAM of engines",
      "pi pi-eraser",
      async () => {
        const { freed, queued, bytes } = await client.change("engine.free", { engine: null });
        return `${freed.length} freed (${(bytes / 2 ** 20).toFixed(0)} MiB)${queued.length > 0 ? `, ${queued.length} will be when its run ends` : ""}.`;
      },
    ],
    ["Refit.Rebuild", "Rebuild engines", "pi pi-wrench", async () => forEachEngine("engine.rebuild")],
    [
      "Refit.OpenDashboard",
      "Open dashboard",
      "pi pi-external-link",
      async () => {
        window.open(new URL("../dashboard.html", import.meta.url), "_blank", "noopener");
      },
    ],
  ];
}

/** Commands as buttons and menus take them: each runs its work, shows the text that it returned, and refreshes. */
export function commandList(definitions, { store, toasts }) {
  const doing = (label, work) => async () => {
    try {
      const text = await work();
      if (text) toasts.show("success", label, text, 4000);
    } catch (error) {
      toasts.show("error", label, error.message);
    }
    await store.refresh();
  };
  const functions = new Map(definitions.map(([id, label, , work]) => [id, doing(label, work)]));
  return {
    list: definitions.map(([id, label, icon]) => ({ id, label, icon, tooltip: label, function: functions.get(id) })),
    run: (id) => functions.get(id)(),
  };
}

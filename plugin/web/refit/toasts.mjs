// Short messages. Uses the newer toast calls where the frontend has them.

const severities = { success: "success", info: "info", warn: "warning", error: "error" };

/** `nameOf(id)` resolves to a catalogue entry's name. */
export function createToasts(app, nameOf) {
  // Files that came while this page was open; an old file's delta is nobody's news.
  const arrived = new Set();
  const wanted = (id) => app.extensionManager.setting?.get?.(id) ?? true;

  function show(severity, summary, detail, life = 6000) {
    const toast = app.extensionManager.toast;
    const newer = toast[severities[severity]];
    if (typeof newer === "function") newer.call(toast, summary, { description: detail, detail, duration: life });
    else toast.add({ severity, summary, detail, life });
  }

  return {
    show,
    /** An event of the sidecar, or of this plugin (`run`). */
    async tell(event) {
      if (event.type === "arrival.settled" && event.kind === "adapter") arrived.add(event.id);
      else if (event.type === "delta.ready" && arrived.delete(event.id) && wanted("Refit.Toasts.NewAdapters")) show("success", "New LoRA ready", `${await nameOf(event.id)} can be used on an engine; no rebuild needed.`);
      else if (event.type === "delta.failed") show("error", "LoRA cannot be used", event.message);
      else if (event.type === "arrival.refused") show("warn", "File cannot be used", event.message);
      else if (event.type === "refit.failed") show("error", "Refit failed", `${event.message} The old weights keep serving.`);
      else if (event.type === "host.crashed") show("error", "Engine ended", `${event.message} It is started again by itself.`);
      else if (event.type === "run" && event.run.served_by === "local" && wanted("Refit.Toasts.Fallback")) show("warn", "Not on an engine", `${event.run.checkpoint} ran in ComfyUI itself: ${event.run.reason}.`);
    },
  };
}

// What ComfyUI's own settings dialog shows of this plugin.

export const settings = [
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
];

// ComfyUI's own messages and settings. Uses the newer toast calls where the frontend has them.

import type { App } from "../comfyui/frontend.ts";
import { isQuiet } from "../comfyui/quiet.ts";
import type { Messages } from "./toasts.ts";

const severities = { success: "success", info: "info", warn: "warning", error: "error" } as const;
const settings = { newAdapters: "Refit.Toasts.NewAdapters", fallback: "Refit.Toasts.Fallback" };

/** What createToasts needs of ComfyUI. */
export function comfyuiMessages(app: App): Messages {
  return {
    ui: "ComfyUI",
    wanted: (name) => app.extensionManager.setting?.get?.(settings[name]) !== false && !(name === "fallback" && isQuiet(app)),
    show(severity, summary, detail, life = 6000) {
      const toast = app.extensionManager.toast;
      const newer = toast[severities[severity]];
      if (typeof newer === "function") newer.call(toast, summary, { description: detail, detail, duration: life });
      else toast.add({ severity, summary, detail, life });
    },
  };
}

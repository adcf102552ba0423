// Messages in A1111 and Forge: their page has none that a script can show in every version, so these are our own.

import type { Messages } from "./toasts.ts";

const settings = { newAdapters: "refit_sidecar_messages_new", fallback: "refit_sidecar_messages_fallback" };
const shownAtOnce = 5;

function box(): HTMLElement {
  const found = document.getElementById("refit-toasts");
  if (found) return found;
  const made = document.createElement("div");
  made.id = "refit-toasts";
  made.setAttribute("role", "log");
  made.setAttribute("aria-live", "polite");
  document.body.append(made);
  return made;
}

function text(tag: string, content: string): HTMLElement {
  const made = document.createElement(tag);
  made.textContent = content;
  return made;
}

/** What createToasts needs. A click takes a message away; one that the pointer is on stays. */
export function webuiMessages(ui: string): Messages {
  return {
    ui,
    // `opts` holds the UI's settings in its page.
    wanted: (name) => (globalThis as { opts?: Record<string, boolean> }).opts?.[settings[name]] ?? true,
    show(severity, summary, detail, life = 6000) {
      const toast = document.createElement("button");
      toast.type = "button";
      toast.className = `refit-toast refit-toast-${severity}`;
      toast.title = "Close";
      toast.append(text("strong", summary), text("span", detail));
      toast.addEventListener("click", () => toast.remove());
      const leave = (): unknown => (toast.matches(":hover") ? setTimeout(leave, 1000) : toast.remove());
      setTimeout(leave, life);
      const place = box();
      place.append(toast);
      while (place.children.length > shownAtOnce) place.firstElementChild?.remove();
    },
  };
}

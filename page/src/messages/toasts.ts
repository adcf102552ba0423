// Short messages about what happened. How they look and which are wanted is the UI's.

import { coded, type Run, type WireEvent } from "../wire/client.ts";

export type Severity = "success" | "info" | "warn" | "error";
export type ToldEvent = WireEvent | { readonly type: "run"; readonly run: Run };

/** What a UI brings for messages. */
export interface Messages {
  readonly ui: string;
  readonly wanted: (setting: "newAdapters" | "fallback", about?: string) => boolean;
  readonly show: (severity: Severity, summary: string, detail: string, life?: number) => void;
}

export interface Toasts {
  readonly show: Messages["show"];
  readonly tell: (event: ToldEvent) => Promise<void>;
}

/** `show(severity, summary, detail, life)` and `wanted(setting)` are the UI's; `nameOf(id)` resolves to a catalogue entry's name; `ui` is the UI's name. */
export function createToasts({ show, wanted, ui }: Messages, nameOf: (id: string) => Promise<string>): Toasts {
  // Files that came while this page was open; an old file's delta is nobody's news.
  const arrived = new Set<string>();

  return {
    show,
    /** An event of the sidecar, or of this plugin (`run`). */
    async tell(event: ToldEvent): Promise<void> {
      if (event.type === "arrival.settled" && event.kind === "adapter") arrived.add(event.id);
      else if (event.type === "delta.ready" && arrived.delete(event.id) && wanted("newAdapters"))
        show("success", "New LoRA ready", `${await nameOf(event.id)} can be used on an engine; no rebuild needed.`);
      else if (event.type === "delta.failed") show("error", "LoRA cannot be used", coded(event));
      else if (event.type === "arrival.refused") show("warn", "File cannot be used", coded(event));
      else if (event.type === "refit.failed")
        show("error", "Refit failed", coded({ message: `${event.message} The old weights keep serving.`, code: event.code }));
      else if (event.type === "host.crashed") show("error", "Engine ended", `${event.message} It is started again by itself.`);
      else if (event.type === "run" && (event.run.report?.other_family ?? []).length > 0)
        show("warn", "LoRA for another model", `${(event.run.report?.other_family ?? []).join("; ")}.`);
      else if (event.type === "run" && event.run.served_by === "local" && wanted("fallback"))
        show("warn", "Not on an engine", `${event.run.checkpoint} ran in ${ui} itself: ${event.run.reason}`);
    },
  };
}

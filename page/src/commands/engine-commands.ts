// What every UI's page can have done. A command's work returns the text that tells how it went.

import type { Client } from "../wire/client.ts";
import type { Store } from "../state/store.ts";
import type { Severity } from "../messages/toasts.ts";

/** [id, label, icon, work]. */
export type Definition = readonly [string, string, string, () => Promise<string>];

export interface Command {
  readonly id: string;
  readonly label: string;
  readonly icon: string;
  readonly tooltip: string;
  readonly function: () => Promise<void>;
}

export interface Commands {
  readonly list: readonly Command[];
  readonly run: (id: string) => Promise<void>;
}

interface Wish {
  readonly client: Client;
  /** The label, and the work of getting ready what the user has chosen; a page where nothing is chosen has none. */
  readonly warm?: { readonly label: string; readonly work: () => Promise<string> };
  /** How an engine comes to be loaded. */
  readonly idle: string;
  /** Where it can be opened; the dashboard itself has none. */
  readonly dashboard?: URL;
}

export function engineCommands({ client, warm, idle, dashboard }: Wish): Definition[] {
  async function forEachEngine(method: "engine.refit" | "engine.rebuild"): Promise<string> {
    const { engines } = await client.read("engine.list");
    if (engines.length === 0) return `No engine is loaded. ${idle}`;
    await Promise.all(engines.map((engine) => client.change(method, { engine: engine.id })));
    return `Started for ${engines.length} engine${engines.length === 1 ? "" : "s"}.`;
  }

  const warming: Definition[] = warm === undefined ? [] : [["Refit.Warm", warm.label, "pi pi-play", warm.work]];
  const opening: Definition[] = dashboard === undefined ? [] : [openDashboard(dashboard)];
  return [
    ...warming,
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
    ...opening,
  ];
}

const openDashboard = (dashboard: URL): Definition => [
  "Refit.OpenDashboard",
  "Open dashboard",
  "pi pi-external-link",
  async () => {
    window.open(dashboard, "_blank", "noopener");
    return "";
  },
];

/** What a command's button says: what pressing it does now. */
export const labelOf = (command: Command, paused: boolean): string =>
  command.id === "Refit.PauseWatching" ? `${paused ? "Resume" : "Pause"} watching` : command.label;

interface Shown {
  readonly store: Store;
  readonly toasts: { readonly show: (severity: Severity, summary: string, detail: string, life?: number) => void };
}

/** Commands as buttons and menus take them: each runs its work, shows the text that it returned, and refreshes. */
export function commandList(definitions: readonly Definition[], { store, toasts }: Shown): Commands {
  const doing = (label: string, work: () => Promise<string>) => async () => {
    try {
      const text = await work();
      if (text) toasts.show("success", label, text, 4000);
    } catch (error) {
      toasts.show("error", label, (error as Error).message);
    }
    await store.refresh();
  };
  const functions = new Map(definitions.map(([id, label, , work]) => [id, doing(label, work)]));
  const of = (id: string) => functions.get(id) ?? (async () => undefined);
  return { list: definitions.map(([id, label, icon]) => ({ id, label, icon, tooltip: label, function: of(id) })), run: (id) => of(id)() };
}

// What ComfyUI's own settings dialog shows of this plugin.

import type { State, Store } from "../state/store.ts";
import type { App, GraphNode } from "./frontend.ts";
import { widgetOf } from "./graphs.ts";

const ids = { host: "Refit.Engine.Host", precision: "Refit.Engine.Precision" } as const;

/** Folders are ComfyUI's own, so they are shown and not typed: a page that anybody may open names no path. */
function folderList(store: Store): HTMLElement {
  const list = document.createElement("ul");
  list.className = "refit-folder-list";
  let drawn: State["folders"] | null = null;
  const draw = () => {
    const { folders } = store.state;
    if (folders === drawn) return;
    drawn = folders;
    list.replaceChildren(
      ...folders.map(({ label, kind, entries, problem }) => {
        const line = document.createElement("li");
        line.textContent = problem ? `${label}: ${problem.message}` : `${label}: ${entries} ${kind}`;
        return line;
      }),
    );
  };
  draw();
  // The dialog makes a list each time that it is opened, and throws it away without a word.
  let wasShown = false;
  const stop = store.subscribe(() => {
    wasShown ||= list.isConnected;
    if (wasShown && !list.isConnected) stop();
    else draw();
  });
  return list;
}

export function settings(store: Store): object[] {
  return [
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
    {
      id: ids.host,
      name: "Engine host of new Load Engine nodes",
      category: ["Refit", "Engines", "Host"],
      type: "combo",
      options: ["auto", "onnxruntime", "torch", "tensorrt"],
      defaultValue: "auto",
    },
    {
      id: ids.precision,
      name: "Precision of new Load Engine nodes",
      category: ["Refit", "Engines", "Precision"],
      type: "combo",
      options: ["auto", "fp32", "fp16", "bf16", "fp8", "int8", "nvfp4"],
      defaultValue: "auto",
    },
    {
      id: "Refit.Engine.Folders",
      name: "Watched folders",
      tooltip: "ComfyUI's own model folders; more of them go into extra_model_paths.yaml",
      category: ["Refit", "Engines", "Folders"],
      type: () => folderList(store),
      defaultValue: null,
    },
  ];
}

/** A node that was just made takes the settings; one that a workflow brings gets its own values afterwards. */
export function takeSettings(app: App, node: GraphNode): void {
  if (node.comfyClass?.startsWith("RefitLoadEngine") !== true) return;
  for (const [name, id] of Object.entries(ids)) {
    const widget = widgetOf(node, name);
    const value = app.extensionManager.setting?.get?.(id);
    const known = widget?.options?.values;
    if (widget && typeof value === "string" && (!Array.isArray(known) || known.includes(value))) widget.value = value;
  }
}

// What the open workflow says of itself: which checkpoints it loads.

import type { CatalogEntry } from "../wire/client.ts";
import type { GraphNode, Graphs } from "./frontend.ts";
import { allNodes } from "./graphs.ts";

/** The widget that names the file, per loader of core. Outputs of the same slot are the same thing. */
export const modelLoaders: Readonly<Record<string, string>> = { CheckpointLoaderSimple: "ckpt_name", UNETLoader: "unet_name" };
const fileWidgets = new Set(Object.values(modelLoaders));

/** Names of the files that loader nodes have chosen, subgraphs included, each once. */
export function checkpointsOf(app: Graphs): string[] {
  const names = allNodes(app).flatMap((node) =>
    (node.widgets ?? []).filter((widget) => fileWidgets.has(widget.name)).map((widget) => String(widget.value)),
  );
  return [...new Set(names)];
}

/** Families of those checkpoints, as far as the catalog knows them; null for a workflow without one. */
export function familiesOf(app: Graphs, catalog: readonly CatalogEntry[]): ReadonlySet<string> | null {
  const names = checkpointsOf(app).map((name) => name.replaceAll("\\", "/"));
  const families = catalog.flatMap((entry) =>
    entry.kind === "checkpoint" && entry.family !== null && names.some((name) => name === entry.name) ? [entry.family] : [],
  );
  return families.length === 0 ? null : new Set(families);
}

/** Tells when another file is chosen in a loader node. */
export function onFileChosen(node: GraphNode, tell: () => void): void {
  for (const widget of node.widgets ?? []) {
    if (!fileWidgets.has(widget.name)) continue;
    const { callback } = widget;
    widget.callback = function chosen(this: unknown, ...values) {
      const answer = callback?.apply(this, values);
      tell();
      return answer;
    };
  }
}

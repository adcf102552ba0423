// "Do not tell again": kept in the workflow itself, so that it goes with the file and not with the browser.

import type { Graphs } from "./frontend.ts";
import { allGraphs } from "./graphs.ts";

const rootOf = (app: Graphs) => allGraphs(app)[0];

/** Whether runs of the open workflow that are not on an engine are told. */
export function isQuiet(app: Graphs): boolean {
  const kept = rootOf(app)?.extra?.["refit"] as { readonly quiet?: boolean } | undefined;
  return kept?.quiet === true;
}

export function setQuiet(app: Graphs, quiet: boolean): void {
  const root = rootOf(app);
  if (!root) return;
  root.extra = { ...root.extra, refit: { quiet } };
}

// The last stacks that engines were brought to, from the history of refits. Pure.

import type { Stamped } from "../wire/client.ts";

export interface RecentStack {
  readonly items: readonly { readonly id: string; readonly strength: number }[];
  readonly at: string;
}

const shown = 5;

/** Newest first, each stack once; no LoRA is no stack. */
export function recentStacks(history: readonly Stamped[]): RecentStack[] {
  const found = new Map<string, RecentStack>();
  for (const { at, event } of history.toReversed()) {
    if (event.type !== "refit.committed" || event.stack.length === 0) continue;
    const key = JSON.stringify(event.stack);
    if (!found.has(key)) found.set(key, { items: event.stack, at });
    if (found.size === shown) break;
  }
  return [...found.values()];
}

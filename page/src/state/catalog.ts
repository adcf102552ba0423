// The catalog as a page keeps it: read as a whole once, then only what events name. Pure.

import type { CatalogEntry, WireEvent } from "../wire/client.ts";

/** Entries that an event makes old; those that went are among them. */
export function oldEntries(event: WireEvent): readonly string[] {
  if (event.type === "catalog.changed") return [...event.added, ...event.changed, ...event.removed];
  if (event.type === "arrival.settled" || event.type === "arrival.refused" || event.type === "delta.ready" || event.type === "delta.failed")
    return [event.id];
  return [];
}

const before = (one: CatalogEntry, other: CatalogEntry): boolean => (one.name === other.name ? one.id < other.id : one.name < other.name);

/** `entries`, in name order, with those of `asked` as they are now: `fresh` has them, or they are gone. */
export function refreshed(entries: readonly CatalogEntry[], asked: ReadonlySet<string>, fresh: readonly CatalogEntry[]): CatalogEntry[] {
  const news = fresh.toSorted((one, other) => (before(one, other) ? -1 : 1));
  const merged: CatalogEntry[] = [];
  let next = 0;
  for (const entry of entries) {
    if (asked.has(entry.id)) continue;
    for (let one = news[next]; one !== undefined && before(one, entry); one = news[next]) {
      merged.push(one);
      next += 1;
    }
    merged.push(entry);
  }
  return [...merged, ...news.slice(next)];
}

// Which adapters of the catalog a page shows. Pure, so that ten thousand of them are filtered between two key strokes and tested without a browser.

import type { CatalogEntry } from "../wire/client.ts";

export interface Filter {
  readonly text: string;
  /** Family, folder: empty for all. */
  readonly family: string;
  readonly base: string;
  readonly folder: string;
  /** Families of the open workflow; null where there is none, or where all are wanted. */
  readonly fits: ReadonlySet<string> | null;
}

export const everything: Filter = { text: "", family: "", base: "", folder: "", fits: null };

type Adapter = Pick<CatalogEntry, "id" | "kind" | "folder" | "name" | "family" | "sha256">;

/** Adapters of the watched folders, each file once, in the catalog's order. Those that were pushed by content are no files of a user. */
export function adaptersOf<Entry extends Adapter>(catalog: readonly Entry[]): Entry[] {
  return catalog.filter((entry) => entry.kind === "adapter" && entry.folder !== null);
}

/** What people wrote of an adapter, as far as it is known yet. */
interface Written {
  readonly title: string | null;
  readonly base: string | null;
  readonly triggerWords: readonly string[];
}

/** Every word of the text has to be in the name, the title or the trigger words. */
export function matching<Entry extends Adapter>(
  adapters: readonly Entry[],
  filter: Filter,
  notesOf: (id: string) => Written | undefined = () => undefined,
): Entry[] {
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  return adapters.filter(
    (entry) =>
      (filter.family === "" || (entry.family ?? "unknown") === filter.family) &&
      (filter.folder === "" || entry.folder === filter.folder) &&
      (filter.fits === null || entry.family === null || filter.fits.has(entry.family)) &&
      (filter.base === "" || notesOf(entry.id)?.base === filter.base) &&
      (words.length === 0 || hasAll(words, entry.name, notesOf(entry.id))),
  );
}

function hasAll(words: readonly string[], name: string, written: Written | undefined): boolean {
  const text = [name, written?.title ?? "", ...(written?.triggerWords ?? [])].join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
}

/** Values of a field with how many adapters have them, the most frequent first. */
export function counted<Entry>(entries: readonly Entry[], valueOf: (entry: Entry) => string | null): [value: string, count: number][] {
  const counts = new Map<string, number>();
  for (const entry of entries) {
    const value = valueOf(entry);
    if (value !== null) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  return [...counts].sort(([a, many], [b, more]) => more - many || (a < b ? -1 : 1));
}

/** The name without its folders and its extension, and the folders. */
export function nameParts(name: string): { readonly title: string; readonly path: string } {
  const cut = name.lastIndexOf("/") + 1;
  return { title: name.slice(cut).replace(/\.safetensors$/i, ""), path: name.slice(0, Math.max(0, cut - 1)) };
}

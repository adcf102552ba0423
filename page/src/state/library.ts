// Which adapters of the catalog a page shows. Pure, an adapter at a time, so that a list of any length is gone through in slices and tested without a browser.

import type { CatalogEntry } from "../wire/client.ts";

export interface Filter {
  readonly text: string;
  /** Family, base, folder: empty for all. */
  readonly family: string;
  readonly base: string;
  readonly folder: string;
  /** Families of the open workflow; null where there is none, or where all are wanted. */
  readonly fits: ReadonlySet<string> | null;
}

export const everything: Filter = { text: "", family: "", base: "", folder: "", fits: null };

type Adapter = Pick<CatalogEntry, "id" | "kind" | "folder" | "name" | "family">;

/** An adapter of a watched folder. Those that were pushed by content are no files of a user. */
export const isShelved = (entry: Pick<Adapter, "kind" | "folder">): boolean => entry.kind === "adapter" && entry.folder !== null;

/** What people wrote of an adapter, as far as it is known yet. */
export interface Written {
  readonly title: string | null;
  readonly base: string | null;
  readonly triggerWords: readonly string[];
}

/** Everything that a search looks into. */
export const searchText = (name: string, written: Written | undefined): string =>
  [name, written?.title ?? "", ...(written?.triggerWords ?? [])].join("\n").toLowerCase();

/** Whether an answer of `fitting` can change when notes come. */
export const looksIntoNotes = (filter: Filter): boolean => filter.base !== "" || filter.text.trim() !== "";

interface Known {
  /** `searchText` of an adapter. */
  readonly textOf: (entry: Adapter) => string;
  readonly baseOf: (id: string) => string | null;
}

/** Whether a filter lets an adapter through: every word of its text has to be in the name, the title or the trigger words. */
export function fitting(filter: Filter, { textOf, baseOf }: Known): (entry: Adapter) => boolean {
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  return (entry) => {
    if (filter.family !== "" && (entry.family ?? "unknown") !== filter.family) return false;
    if (filter.folder !== "" && entry.folder !== filter.folder) return false;
    if (filter.fits !== null && entry.family !== null && !filter.fits.has(entry.family)) return false;
    if (filter.base !== "" && baseOf(entry.id) !== filter.base) return false;
    if (words.length === 0) return true;
    const text = textOf(entry);
    return words.every((word) => text.includes(word));
  };
}

/** Values of a field with how many adapters have them; counted up and down as adapters and notes come. */
export class Counts {
  readonly #counts = new Map<string, number>();

  add(value: string | null, change = 1): void {
    if (value === null) return;
    const count = (this.#counts.get(value) ?? 0) + change;
    if (count > 0) this.#counts.set(value, count);
    else this.#counts.delete(value);
  }

  /** The most frequent first. */
  get sorted(): [value: string, count: number][] {
    return [...this.#counts].sort(([a, many], [b, more]) => more - many || (a < b ? -1 : 1));
  }
}

/** The name without its folders and its extension, and the folders. */
export function nameParts(name: string): { readonly title: string; readonly path: string } {
  const cut = name.lastIndexOf("/") + 1;
  return { title: name.slice(cut).replace(/\.safetensors$/i, ""), path: name.slice(0, Math.max(0, cut - 1)) };
}

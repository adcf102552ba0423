// The library of a page: adapters, choices with their counts, and what the filter lets through. Work on all of them is done in slices; what came with notes is counted, not recounted.

import type { CatalogEntry } from "../wire/client.ts";
import { createPass, type Pass } from "./frames.ts";
import { Counts, everything, fitting, isShelved, looksIntoNotes, searchText, type Filter } from "./library.ts";
import type { Notes } from "./notes.ts";

type Choices = readonly (readonly [value: string, count: number])[];

export interface ShelfView {
  readonly adapters: readonly CatalogEntry[];
  readonly families: Choices;
  readonly folders: Choices;
  readonly bases: Choices;
  readonly filter: Filter;
  readonly shown: readonly CatalogEntry[];
}

export interface Shelf {
  readonly view: () => ShelfView;
  readonly setCatalog: (catalog: readonly CatalogEntry[]) => void;
  readonly setFilter: (filter: Filter) => void;
  readonly subscribe: (listener: () => void) => () => void;
}

interface Counted {
  readonly ids: Set<string>;
  readonly bases: Counts;
}

interface Passes {
  readonly gather?: Pass;
  readonly sift?: Pass;
}

export function createShelf(
  notes: Pick<Notes, "of" | "all" | "subscribe">,
  { gather = createPass(), sift = createPass() }: Passes = {},
): Shelf {
  let view: ShelfView = { adapters: [], families: [], folders: [], bases: [], filter: everything, shown: [] };
  /** Whose bases are counted: of the present view, and of one that is being gathered. */
  let counted: Counted = { ids: new Set(), bases: new Counts() };
  let gathered: Counted | null = null;
  const baseOf = new Map<string, string>();
  const texts = new Map<string, { readonly name: string; readonly text: string }>();
  const listeners = new Set<() => void>();

  function become(change: Partial<ShelfView>): void {
    view = { ...view, ...change };
    for (const listener of listeners) listener();
  }

  function textOf({ id, name }: Pick<CatalogEntry, "id" | "name">): string {
    const known = texts.get(id);
    if (known?.name === name) return known.text;
    const text = searchText(name, notes.of(id));
    texts.set(id, { name, text });
    return text;
  }

  async function siftAll(): Promise<void> {
    const { adapters, filter } = view;
    const lets = fitting(filter, { textOf, baseOf: (id) => baseOf.get(id) ?? null });
    const shown: CatalogEntry[] = [];
    const whole = await sift(adapters, (entry) => {
      if (lets(entry)) shown.push(entry);
    });
    if (whole) become({ shown });
  }

  async function gatherAll(catalog: readonly CatalogEntry[]): Promise<void> {
    const adapters: CatalogEntry[] = [];
    const [families, folders] = [new Counts(), new Counts()];
    const next: Counted = { ids: new Set(), bases: new Counts() };
    gathered = next;
    const whole = await gather(catalog, (entry) => {
      if (!isShelved(entry)) return;
      adapters.push(entry);
      families.add(entry.family ?? "unknown");
      folders.add(entry.folder);
      next.ids.add(entry.id);
      next.bases.add(baseOf.get(entry.id) ?? null);
    });
    if (!whole) return;
    [counted, gathered] = [next, null];
    view = { ...view, adapters, families: families.sorted, folders: folders.sorted, bases: counted.bases.sorted };
    notes.all(adapters.map(({ id }) => id));
    await siftAll();
  }

  notes.subscribe((changed) => {
    let moved = false;
    for (const id of changed) {
      texts.delete(id);
      const [before, now] = [baseOf.get(id) ?? null, notes.of(id)?.base ?? null];
      if (before === now) continue;
      if (now === null) baseOf.delete(id);
      else baseOf.set(id, now);
      for (const { ids, bases } of gathered === null ? [counted] : [counted, gathered]) {
        if (!ids.has(id)) continue;
        bases.add(before, -1);
        bases.add(now);
        moved = true;
      }
    }
    if (moved) become({ bases: counted.bases.sorted });
    if (looksIntoNotes(view.filter)) void siftAll();
  });

  return {
    view: () => view,
    setCatalog: (catalog) => void gatherAll(catalog),
    setFilter(filter) {
      become({ filter });
      void siftAll();
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}

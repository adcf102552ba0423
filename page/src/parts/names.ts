import type { State } from "../state/store.ts";

/** Of each catalog, asked for by every line of a long list. */
const namesOf = new WeakMap<State["catalog"], ReadonlyMap<string, string>>();

/** The catalog's name for an id or a hash. */
export function nameOf({ catalog }: State, key: string): string {
  let names = namesOf.get(catalog);
  if (names === undefined) {
    // The first of several files with one content gives the name.
    const pairs = catalog.toReversed().flatMap(({ id, sha256, name }) => [[sha256 ?? id, name] as const, [id, name] as const]);
    names = new Map(pairs);
    namesOf.set(catalog, names);
  }
  return names.get(key) ?? `${key.slice(0, 12)}…`;
}

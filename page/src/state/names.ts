import type { CatalogEntry } from "../wire/client.ts";

type Named = Pick<CatalogEntry, "sha256" | "name"> & Partial<Pick<CatalogEntry, "id">>;

/** Of each catalog, asked for by every line of a long list. */
const namesOf = new WeakMap<readonly Named[], ReadonlyMap<string, string>>();

/** The catalog's name for an id or a hash, if it has one. */
export function knownName(catalog: readonly Named[], key: string): string | undefined {
  let names = namesOf.get(catalog);
  if (names === undefined) {
    const made = new Map<string, string>();
    // The first of several files with one content gives the name.
    for (let index = catalog.length - 1; index >= 0; index -= 1) {
      const { id, sha256, name } = catalog[index] as Named;
      if (id !== undefined) made.set(id, name);
      if (sha256 !== null) made.set(sha256, name);
    }
    names = made;
    namesOf.set(catalog, names);
  }
  return names.get(key);
}

/** The name, or the beginning of the key. */
export const nameOf = ({ catalog }: { readonly catalog: readonly Named[] }, key: string): string =>
  knownName(catalog, key) ?? `${key.slice(0, 12)}…`;

import type { State } from "../state/store.ts";

/** The catalog's name for an id or a hash. */
export function nameOf(state: State, key: string): string {
  return state.catalog.find((entry) => entry.id === key || entry.sha256 === key)?.name ?? `${key.slice(0, 12)}…`;
}

import { useEffect, useState } from "preact/hooks";
import type { State, Store } from "../state/store.ts";

/** The component is drawn anew whenever the source tells; gives how many times that was. */
export function useChanges({ subscribe }: Pick<Store, "subscribe">): number {
  const [told, tell] = useState(0);
  useEffect(() => subscribe(() => tell((count) => count + 1)), [subscribe]);
  return told;
}

/** The store's state, drawn anew with it. */
export function useStore(store: Store): State {
  useChanges(store);
  return store.state;
}

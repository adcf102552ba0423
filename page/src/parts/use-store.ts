import { useEffect, useState } from "preact/hooks";
import type { State, Store } from "../state/store.ts";

/** The store's state; the component is drawn anew whenever it changes. */
export function useStore(store: Store): State {
  const [, drawn] = useState(0);
  useEffect(() => store.subscribe(() => drawn((count) => count + 1)), [store]);
  return store.state;
}

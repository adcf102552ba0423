import { useEffect, useReducer, useRef } from "preact/hooks";
import type { Notes } from "../state/notes.ts";
import type { Shelf, ShelfView } from "../state/shelf.ts";
import type { State, Store } from "../state/store.ts";

/** The component is drawn anew when the source tells and something of `look` is another thing than it was. */
function useLook(subscribe: (listener: () => void) => () => void, look: () => readonly unknown[]): void {
  const [, draw] = useReducer((count: number) => count + 1, 0);
  const seen = useRef<readonly unknown[]>([]);
  seen.current = look();
  useEffect(() => {
    const compare = () => {
      if (look().some((value, index) => value !== seen.current[index])) draw(undefined);
    };
    const stop = subscribe(compare);
    // What was told between the drawing and now.
    compare();
    return stop;
  }, [subscribe]);
}

/** The store's state; drawn anew when one of these fields changes. */
export function useStore(store: Store, ...fields: readonly (keyof State)[]): State {
  useLook(store.subscribe, () => fields.map((field) => store.state[field]));
  return store.state;
}

export function useShelf(shelf: Shelf): ShelfView {
  useLook(shelf.subscribe, () => [shelf.view()]);
  return shelf.view();
}

/** Drawn anew when notes or the picture of this adapter come. */
export function useNotes(notes: Notes, id: string): void {
  const [, draw] = useReducer((count: number) => count + 1, 0);
  useEffect(() => notes.subscribe((ids) => ids.has(id) && draw(undefined)), [notes, id]);
}

import { useCallback, useEffect, useState } from "preact/hooks";

export type Answer<Value> = { readonly value: Value | null; readonly error: string | null; readonly again: () => void };

/** Asks when drawn, when one of `keys` changes, and whenever `again` is called. An older answer stays until the new one is there. */
export function useAnswer<Value>(ask: () => Promise<Value>, keys: readonly unknown[]): Answer<Value> {
  const [answer, setAnswer] = useState<{ readonly value: Value | null; readonly error: string | null }>({ value: null, error: null });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let current = true;
    ask().then(
      (value) => current && setAnswer({ value, error: null }),
      (error: Error) => current && setAnswer((before) => ({ ...before, error: error.message })),
    );
    return () => {
      current = false;
    };
  }, [...keys, turn]);
  return { ...answer, again: useCallback(() => setTurn((count) => count + 1), []) };
}

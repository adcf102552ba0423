import { useEffect, useState } from "preact/hooks";

interface Answer<Value> {
  readonly value: Value | null;
  readonly error: string | null;
}

/** Asks when drawn, and when one of `keys` changes. An older answer stays until the new one is there. */
export function useAnswer<Value>(ask: () => Promise<Value>, keys: readonly unknown[]): Answer<Value> {
  const [answer, setAnswer] = useState<Answer<Value>>({ value: null, error: null });
  useEffect(() => {
    let current = true;
    ask().then(
      (value) => current && setAnswer({ value, error: null }),
      (error: Error) => current && setAnswer((before) => ({ ...before, error: error.message })),
    );
    return () => {
      current = false;
    };
  }, keys);
  return answer;
}

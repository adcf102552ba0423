// The stack of an engine, with a slider a LoRA: the engine is refitted while it moves.

import { useEffect, useRef, useState } from "preact/hooks";
import { keptEnough, keptShare, ms } from "../state/rows.ts";
import type { State, Store } from "../state/store.ts";
import type { Engine } from "../wire/client.ts";
import { nameOf } from "../state/names.ts";

export interface StackItem {
  readonly adapter: string;
  readonly strength: number;
}

export const stackOf = (engine: Engine): StackItem[] =>
  (engine.weights?.stack ?? []).map(({ sha256, strength }) => ({ adapter: sha256, strength }));

interface StackSlidersProps {
  readonly stack: readonly StackItem[];
  readonly state: State;
  readonly mayChange: boolean;
  readonly kept: (adapter: string) => number | null;
  readonly change: (stack: StackItem[]) => void;
}

export function StackSliders({ stack, state, mayChange, kept, change }: StackSlidersProps) {
  if (stack.length === 0) return <p class="refit-detail">No LoRA on it.</p>;
  const set = (index: number, strength: number) => change(stack.map((item, place) => (place === index ? { ...item, strength } : item)));
  return (
    <ul class="refit-stack">
      {stack.map((item, index) => {
        const name = nameOf(state, item.adapter);
        const share = kept(item.adapter);
        return (
          <li key={`${item.adapter}${index}`}>
            <span class="refit-name" title={name}>
              {name}
            </span>
            {mayChange && (
              <input
                type="range"
                min={Math.min(-2, item.strength)}
                max={Math.max(2, item.strength)}
                step={0.05}
                value={item.strength}
                aria-label={`Strength of ${name}`}
                onInput={(event) => set(index, Number(event.currentTarget.value))}
              />
            )}
            <output>{item.strength.toFixed(2)}</output>
            {mayChange && (
              <button
                type="button"
                class="refit-small"
                aria-label={`Take ${name} off`}
                onClick={() => change(stack.filter((_, place) => place !== index))}
              >
                ×
              </button>
            )}
            {share !== null && share < keptEnough && <span class="refit-warn-text refit-wide">keeps {keptShare(share)} of its change</span>}
          </li>
        );
      })}
    </ul>
  );
}

/** Does the newest wish only: while one is under way, those that came meanwhile are dropped but the last. */
export function useLatest<Wish>(work: (wish: Wish) => Promise<void>): (wish: Wish) => void {
  const waiting = useRef<{ wish: Wish | null; busy: boolean }>({ wish: null, busy: false });
  return (wish) => {
    const queue = waiting.current;
    queue.wish = wish;
    if (queue.busy) return;
    queue.busy = true;
    void (async () => {
      while (queue.wish !== null) {
        const next = queue.wish;
        queue.wish = null;
        await work(next);
      }
      queue.busy = false;
    })();
  };
}

/** The stack of a loaded engine: moves at once, and follows when something else changes it. */
export function EngineStack({ engine, store }: { readonly engine: Engine; readonly store: Store }) {
  const told = JSON.stringify(stackOf(engine));
  const [stack, setStack] = useState<StackItem[]>(() => stackOf(engine));
  const [said, say] = useState("");
  useEffect(() => setStack(stackOf(engine)), [told]);
  const bring = useLatest<StackItem[]>(async (wish) => {
    try {
      const { ms: took, refit } = await store.client.change("engine.restack", { engine: engine.id, stack: wish });
      say(refit ? `${refit.writes} weights in ${ms(took)}` : "nothing to write");
    } catch (error) {
      say((error as Error).message);
    }
  });
  const kept = (adapter: string) => engine.losses?.find((loss) => loss.adapter === adapter)?.projection ?? null;
  return (
    <>
      <StackSliders
        stack={stack}
        state={store.state}
        mayChange={store.client.mayChange()}
        kept={kept}
        change={(next) => {
          setStack(next);
          bring(next);
        }}
      />
      <p class="refit-detail" role="status">
        {said}
      </p>
    </>
  );
}

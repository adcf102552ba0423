// Try it: a loaded engine draws from fixed seeds while a strength moves. Two pictures stand beside each other: without LoRAs, and with them.

import { useEffect, useMemo, useState } from "preact/hooks";
import { ms } from "../state/rows.ts";
import type { Store } from "../state/store.ts";
import type { Engine } from "../wire/client.ts";
import { nameOf } from "../state/names.ts";
import { StackSliders, stackOf, useLatest, type StackItem } from "./stack-sliders.tsx";
import { useShelf, useStore } from "./use-store.ts";

interface Picture {
  readonly url: string;
  readonly shows: string;
  readonly text: string;
}

const steps = 8;

export function TryIt({ store }: { readonly store: Store }) {
  const state = useStore(store, "engines", "catalog");
  const [chosen, choose] = useState("");
  const engine = state.engines.find(({ id }) => id === chosen) ?? state.engines[0];
  if (engine === undefined)
    return <p class="refit-empty">No engine is loaded. Make a picture in your UI, or warm an engine, then come back.</p>;
  if (!store.client.mayChange()) return <p class="refit-empty">This page may only look. Log in with the control token to try a stack.</p>;
  return (
    <>
      {state.engines.length > 1 && (
        <select class="refit-select" aria-label="Engine" value={engine.id} onChange={(event) => choose(event.currentTarget.value)}>
          {state.engines.map((one) => (
            <option key={one.id} value={one.id}>
              {`${one.weights ? nameOf(state, one.weights.checkpoint) : "no weights"} (${one.precision}, ${one.host})`}
            </option>
          ))}
        </select>
      )}
      <Trial key={engine.id} engine={engine} store={store} />
    </>
  );
}

function Trial({ engine, store }: { readonly engine: Engine; readonly store: Store }) {
  const [seed, setSeed] = useState(1);
  const [stack, setStack] = useState<StackItem[]>(() => stackOf(engine));
  const [pictures, setPictures] = useState<{ readonly without: Picture | null; readonly with: Picture | null }>({
    without: null,
    with: null,
  });
  const [said, say] = useState("");

  async function draw(wish: readonly StackItem[]): Promise<Picture> {
    const answer = await store.client.change("engine.draw", { engine: engine.id, stack: [...wish], seed, steps });
    const text = `refit ${ms(answer.ms.refit)}, steps ${ms(answer.ms.steps)}`;
    return { url: `data:image/png;base64,${answer.png}`, shows: answer.shows, text };
  }
  const follow = useLatest<{ readonly wish: StackItem[]; readonly fresh: boolean }>(async ({ wish, fresh }) => {
    try {
      const without = fresh ? await draw([]) : null;
      const made = wish.length === 0 && without !== null ? without : await draw(wish);
      setPictures((before) => ({ without: without ?? before.without, with: made }));
      say("");
    } catch (error) {
      say((error as Error).message);
    }
  });
  useEffect(() => follow({ wish: stack, fresh: true }), [seed]);

  const change = (next: StackItem[]) => {
    setStack(next);
    follow({ wish: next, fresh: false });
  };
  return (
    <section class="refit-trial">
      <div class="refit-trial-controls">
        <AddAdapter engine={engine} store={store} add={(adapter) => change([...stack, { adapter, strength: 1 }])} />
        <label class="refit-check">
          Seed
          <input
            class="refit-filter refit-seed"
            type="number"
            min={0}
            max={4_294_967_295}
            value={seed}
            onChange={(event) => setSeed(Math.min(4_294_967_295, Math.max(0, Math.floor(Number(event.currentTarget.value) || 0))))}
          />
        </label>
      </div>
      <StackSliders stack={stack} state={store.state} mayChange kept={() => null} change={change} />
      <div class="refit-pictures">
        <PictureOf title="Without LoRAs" picture={pictures.without} />
        <PictureOf title="With the stack" picture={pictures.with} />
      </div>
      {said && (
        <p class="refit-error" role="alert">
          {said}
        </p>
      )}
      <p class="refit-detail">
        {pictures.with?.shows === "latents" ? "Latents as colours, without a prompt and a decoder: coarse, and quick. " : ""}
        The engine keeps the last stack until a run brings its own.
      </p>
    </section>
  );
}

function PictureOf({ title, picture }: { readonly title: string; readonly picture: Picture | null }) {
  return (
    <figure>
      <figcaption>
        {title} <span class="refit-detail">{picture?.text ?? "drawing …"}</span>
      </figcaption>
      {picture && <img src={picture.url} alt={`${title}: what the engine drew`} />}
    </figure>
  );
}

interface AddAdapterProps {
  readonly engine: Engine;
  readonly store: Store;
  readonly add: (adapter: string) => void;
}

const offered = 50;

/** A name is typed or chosen; of very many the first that fit the typed words are offered. */
function AddAdapter({ engine, store, add }: AddAdapterProps) {
  const { adapters } = useShelf(store.shelf);
  const [text, setText] = useState("");
  const fitting = useMemo(
    () => adapters.filter(({ family, problem }) => problem === null && (family === null || family === engine.family)),
    [adapters, engine.family],
  );
  const found = useMemo(() => {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    return fitting.filter(({ name }) => words.every((word) => name.toLowerCase().includes(word))).slice(0, offered);
  }, [fitting, text]);
  const typed = (value: string) => {
    const chosen = fitting.find(({ name }) => name === value);
    setText(chosen ? "" : value);
    if (chosen) add(chosen.id);
  };
  return (
    <>
      <input
        type="search"
        class="refit-filter"
        list="refit-offered"
        placeholder="Add a LoRA …"
        aria-label="Add a LoRA"
        value={text}
        onInput={(event) => typed(event.currentTarget.value)}
      />
      <datalist id="refit-offered">
        {found.map(({ id, name }) => (
          <option key={id} value={name} />
        ))}
      </datalist>
    </>
  );
}

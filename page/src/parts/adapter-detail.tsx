// Everything that is known of one adapter.

import { keptEnough, keptShare, size } from "../state/rows.ts";
import type { AdapterNotes } from "../state/notes.ts";
import type { State, Store } from "../state/store.ts";
import type { CatalogEntry } from "../wire/client.ts";
import { HeatMap } from "./heat-map.tsx";
import type { AdapterAction } from "./panel.tsx";
import { useNotes, useStore } from "./use-store.ts";

interface AdapterDetailProps {
  readonly entry: CatalogEntry;
  readonly store: Store;
  readonly actions: readonly AdapterAction[];
  readonly close: () => void;
}

export function AdapterDetail({ entry, store, actions, close }: AdapterDetailProps) {
  useNotes(store.notes, entry.id);
  const state = useStore(store, "engines", "folders");
  const written = store.notes.of(entry.id);
  const picture = store.notes.pictureOf(entry.id);
  return (
    <section class="refit-adapter-detail" aria-label={entry.name}>
      <header>
        <h2>{written?.title ?? entry.name}</h2>
        <button type="button" class="refit-button" onClick={close}>
          Close
        </button>
      </header>
      {picture !== null && <img class="refit-large-picture" src={picture} alt={`Preview of ${written?.title ?? entry.name}`} />}
      {actions.length > 0 && (
        <div class="refit-buttons">
          {actions.map(({ label, run }) => (
            <button key={label} type="button" class="refit-button" onClick={() => run(entry)}>
              {label}
            </button>
          ))}
        </div>
      )}
      <TriggerWords notes={written} />
      <dl class="refit-facts">
        {factsOf(entry, written, state).map(([label, value]) => (
          <div key={label}>
            <dt>{label}</dt>
            <dd class={label === "file" ? "refit-file" : ""}>{value}</dd>
          </div>
        ))}
      </dl>
      {entry.problem && <p class="refit-error">{entry.problem.message}</p>}
      {written?.description && <p class="refit-detail">{written.description}</p>}
      <h3>What it touches</h3>
      <HeatMap key={entry.id} client={store.client} id={entry.id} />
    </section>
  );
}

function TriggerWords({ notes }: { readonly notes: AdapterNotes | undefined }) {
  const words = notes?.triggerWords ?? [];
  if (words.length === 0) return null;
  return (
    <ul class="refit-words" aria-label="Trigger words">
      {words.map((word) => (
        <li key={word}>
          <button type="button" title="Copy" onClick={() => void navigator.clipboard?.writeText(word)}>
            {word}
          </button>
        </li>
      ))}
    </ul>
  );
}

function factsOf(entry: CatalogEntry, notes: AdapterNotes | undefined, state: State): [string, string][] {
  const folder = state.folders.find((one) => one.id === entry.folder)?.label;
  return [
    ["file", entry.name],
    ["family", entry.family ?? "unknown"],
    ["made for", notes?.base ?? ""],
    ["kind", entry.kinds.join(", ")],
    ["rank", notes?.rank ? String(notes.rank) : ""],
    ["size", size(entry.sizeBytes)],
    ["folder", folder ?? ""],
    ...keptShares(entry, state),
  ].filter((fact): fact is [string, string] => fact[1] !== "");
}

/** How much of it each engine that holds it keeps in its number format. */
function keptShares(entry: CatalogEntry, state: State): [string, string][] {
  return state.engines.flatMap((engine) =>
    (engine.losses ?? [])
      .filter((loss) => loss.adapter === entry.sha256)
      .map(({ projection }): [string, string] => [
        `kept in ${engine.precision} on ${engine.host}`,
        `${keptShare(projection)}${projection < keptEnough ? " of its change" : ""}`,
      ]),
  );
}

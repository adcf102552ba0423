// The LoRAs of the folders: search, filters, the list, and what is known of the chosen one.

import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import { adaptersOf, counted, everything, matching, nameParts } from "../state/library.ts";
import type { Filter } from "../state/library.ts";
import type { Notes } from "../state/notes.ts";
import { adapterRow } from "../state/rows.ts";
import type { Store } from "../state/store.ts";
import type { CatalogEntry } from "../wire/client.ts";
import { AdapterDetail } from "./adapter-detail.tsx";
import type { AdapterAction } from "./panel.tsx";
import { useChanges, useStore } from "./use-store.ts";
import { VirtualList } from "./virtual-list.tsx";

const rowHeight = 64;

interface LibraryProps {
  readonly store: Store;
  /** Families of the open workflow's checkpoints; null where there is no workflow. */
  readonly fits: () => ReadonlySet<string> | null;
  /** What this page can do with an adapter. */
  readonly actions: readonly AdapterAction[];
}

export function Library({ store, fits, actions }: LibraryProps) {
  const state = useStore(store);
  const { notes } = store;
  const [filter, setFilter] = useState(everything);
  const [chosen, choose] = useState<string | null>(null);
  const noted = useChanges(notes);
  const adapters = useMemo(() => adaptersOf(state.catalog), [state.catalog]);
  useEffect(() => notes.all(adapters.map(({ id }) => id)), [adapters, notes]);
  const shown = useMemo(() => matching(adapters, filter, notes.of), [adapters, filter, noted]);
  const seen = useCallback((rows: readonly CatalogEntry[]) => notes.seen(rows.map(({ id }) => id)), [notes]);
  const entry = adapters.find(({ id }) => id === chosen);
  return (
    <div class={`refit-library ${entry ? "refit-with-detail" : ""}`}>
      <div class="refit-shelf">
        <Filters store={store} adapters={adapters} noted={noted} filter={filter} change={setFilter} fits={fits} />
        <p class="refit-count" role="status">
          {shown.length === adapters.length ? `${adapters.length} LoRAs` : `${shown.length} of ${adapters.length} LoRAs`}
        </p>
        <div class="refit-adapters">
          <VirtualList
            items={shown}
            rowHeight={rowHeight}
            label="LoRAs"
            keyOf={(one) => one.id}
            draw={(one) => <AdapterRow entry={one} notes={notes} chosen={one.id === chosen} choose={choose} />}
            seen={seen}
            empty={adapters.length > 0 ? "No LoRA of that name." : "No LoRA in the watched folders."}
          />
        </div>
      </div>
      {entry && <AdapterDetail entry={entry} store={store} actions={actions} close={() => choose(null)} />}
    </div>
  );
}

interface FiltersProps extends Pick<LibraryProps, "store" | "fits"> {
  readonly adapters: readonly CatalogEntry[];
  /** Grows with what is known of notes. */
  readonly noted: number;
  readonly filter: Filter;
  readonly change: (filter: Filter) => void;
}

function Filters({ store, adapters, noted, filter, change, fits }: FiltersProps) {
  const families = useMemo(() => counted(adapters, (entry) => entry.family ?? "unknown"), [adapters]);
  const bases = useMemo(() => counted(adapters, (entry) => store.notes.of(entry.id)?.base ?? null), [adapters, noted]);
  const folders = useMemo(() => counted(adapters, (entry) => entry.folder), [adapters]);
  const labelOf = (id: string) => store.state.folders.find((folder) => folder.id === id)?.label ?? id;
  return (
    <div class="refit-filters">
      <input
        type="search"
        class="refit-filter"
        placeholder="Search LoRAs"
        aria-label="Search LoRAs"
        value={filter.text}
        onInput={(event) => change({ ...filter, text: event.currentTarget.value })}
      />
      <Choice label="Family" value={filter.family} options={families} change={(family) => change({ ...filter, family })} />
      {bases.length > 0 && <Choice label="Base" value={filter.base} options={bases} change={(base) => change({ ...filter, base })} />}
      {folders.length > 1 && (
        <Choice
          label="Folder"
          value={filter.folder}
          options={folders}
          nameOf={labelOf}
          change={(folder) => change({ ...filter, folder })}
        />
      )}
      {fits() !== null && (
        <label class="refit-check">
          <input
            type="checkbox"
            checked={filter.fits !== null}
            onChange={(event) => change({ ...filter, fits: event.currentTarget.checked ? fits() : null })}
          />
          Fits this workflow
        </label>
      )}
    </div>
  );
}

interface ChoiceProps {
  readonly label: string;
  readonly value: string;
  readonly options: readonly (readonly [string, number])[];
  readonly nameOf?: (value: string) => string;
  readonly change: (value: string) => void;
}

function Choice({ label, value, options, nameOf = (name) => name, change }: ChoiceProps) {
  return (
    <select class="refit-select" aria-label={label} value={value} onChange={(event) => change(event.currentTarget.value)}>
      <option value="">{label}: all</option>
      {options.map(([option, count]) => (
        <option key={option} value={option}>
          {nameOf(option)} ({count})
        </option>
      ))}
    </select>
  );
}

interface AdapterRowProps {
  readonly entry: CatalogEntry;
  readonly notes: Notes;
  readonly chosen: boolean;
  readonly choose: (id: string) => void;
}

function AdapterRow({ entry, notes, chosen, choose }: AdapterRowProps) {
  const row = adapterRow(entry);
  const written = notes.of(entry.id);
  const picture = notes.pictureOf(entry.id);
  const { title } = nameParts(entry.name);
  const words = written?.triggerWords.join(", ") ?? "";
  const detail = [
    written?.base && written.base !== entry.family ? written.base : "",
    row.detail,
    written?.rank ? `rank ${written.rank}` : "",
  ];
  return (
    <button
      type="button"
      class={`refit-adapter refit-${row.tone}`}
      title={entry.name}
      aria-pressed={chosen}
      data-adapter={entry.id}
      onClick={() => choose(entry.id)}
    >
      <span class="refit-picture" aria-hidden="true">
        {picture === null ? title.slice(0, 1).toUpperCase() : <img src={picture} alt="" decoding="async" />}
      </span>
      <span class="refit-name">{entry.name}</span>
      <span class="refit-state">{row.state}</span>
      <span class="refit-detail">
        {words === "" ? detail.filter(Boolean).join(" · ") : `${words} · ${detail.filter(Boolean).join(" · ")}`}
      </span>
    </button>
  );
}

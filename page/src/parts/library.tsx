// The LoRAs of the folders: search, filters, the list, and what is known of the chosen one.

import { useMemo, useState } from "preact/hooks";
import { adaptersOf, counted, everything, matching, nameParts } from "../state/library.ts";
import type { Filter } from "../state/library.ts";
import { adapterRow } from "../state/rows.ts";
import type { Store } from "../state/store.ts";
import type { CatalogEntry } from "../wire/client.ts";
import { useStore } from "./use-store.ts";
import { VirtualList } from "./virtual-list.tsx";

const rowHeight = 60;

interface LibraryProps {
  readonly store: Store;
  /** Families of the open workflow's checkpoints; null where there is no workflow. */
  readonly fits: () => ReadonlySet<string> | null;
}

export function Library({ store, fits }: LibraryProps) {
  const state = useStore(store);
  const [filter, setFilter] = useState(everything);
  const adapters = useMemo(() => adaptersOf(state.catalog), [state.catalog]);
  const shown = useMemo(() => matching(adapters, filter), [adapters, filter]);
  return (
    <div class="refit-library">
      <Filters store={store} adapters={adapters} filter={filter} change={setFilter} fits={fits} />
      <p class="refit-count" role="status">
        {shown.length === adapters.length ? `${adapters.length} LoRAs` : `${shown.length} of ${adapters.length} LoRAs`}
      </p>
      <div class="refit-adapters">
        <VirtualList
          items={shown}
          rowHeight={rowHeight}
          label="LoRAs"
          keyOf={(entry) => entry.id}
          draw={(entry) => <AdapterRow entry={entry} />}
          empty={adapters.length > 0 ? "No LoRA of that name." : "No LoRA in the watched folders."}
        />
      </div>
    </div>
  );
}

interface FiltersProps extends LibraryProps {
  readonly adapters: readonly CatalogEntry[];
  readonly filter: Filter;
  readonly change: (filter: Filter) => void;
}

function Filters({ store, adapters, filter, change, fits }: FiltersProps) {
  const families = useMemo(() => counted(adapters, (entry) => entry.family ?? "unknown"), [adapters]);
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

function AdapterRow({ entry }: { readonly entry: CatalogEntry }) {
  const row = adapterRow(entry);
  const { title } = nameParts(entry.name);
  return (
    <button type="button" class={`refit-adapter refit-${row.tone}`} title={entry.name}>
      <span class="refit-picture" aria-hidden="true">
        {title.slice(0, 1).toUpperCase()}
      </span>
      <span class="refit-name">{entry.name}</span>
      <span class="refit-state">{row.state}</span>
      <span class="refit-detail">{row.detail}</span>
    </button>
  );
}

// The LoRAs of the folders: search, filters, the list, and what is known of the chosen one.

import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import { nameParts, type Filter } from "../state/library.ts";
import type { Notes } from "../state/notes.ts";
import { adapterRow, plural } from "../state/rows.ts";
import type { Store } from "../state/store.ts";
import type { CatalogEntry } from "../wire/client.ts";
import { AdapterDetail } from "./adapter-detail.tsx";
import type { AdapterAction } from "./panel.tsx";
import { memo } from "./memo.tsx";
import { useNotes, useShelf, useStore } from "./use-store.ts";
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
  const { notes, shelf } = store;
  const { adapters, shown } = useShelf(shelf);
  const [chosen, choose] = useState<string | null>(null);
  const seen = useCallback((rows: readonly CatalogEntry[]) => notes.seen(rows.map(({ id }) => id)), [notes]);
  const entry = useMemo(() => adapters.find(({ id }) => id === chosen), [adapters, chosen]);
  return (
    <div class={`refit-library ${entry ? "refit-with-detail" : ""}`}>
      <div class="refit-shelf">
        <Filters store={store} fits={fits} />
        <p class="refit-count" role="status">
          {shown.length === adapters.length ? plural(adapters.length, "LoRA") : `${shown.length} of ${plural(adapters.length, "LoRA")}`}
        </p>
        <div class="refit-adapters">
          <VirtualList
            items={shown}
            rowHeight={rowHeight}
            label="LoRAs"
            keyOf={idOf}
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

const idOf = ({ id }: CatalogEntry): string => id;
const familiesText = (families: ReadonlySet<string> | null): string => (families === null ? "" : [...families].sort().join());

function Filters({ store, fits }: Pick<LibraryProps, "store" | "fits">) {
  const { families, bases, folders, filter } = useShelf(store.shelf);
  const state = useStore(store, "folders", "catalog", "workflow");
  const wanted = fits();
  const change = (part: Partial<Filter>) => store.shelf.setFilter({ ...filter, ...part });
  // Another workflow, or another checkpoint in it, fits other LoRAs.
  useEffect(() => {
    if (filter.fits !== null && familiesText(filter.fits) !== familiesText(wanted)) change({ fits: wanted });
  });
  const labelOf = (id: string) => state.folders.find((folder) => folder.id === id)?.label ?? id;
  return (
    <div class="refit-filters">
      <input
        type="search"
        class="refit-filter"
        placeholder="Search LoRAs"
        aria-label="Search LoRAs"
        value={filter.text}
        onInput={(event) => change({ text: event.currentTarget.value })}
      />
      <Choice label="Family" value={filter.family} options={families} change={(family) => change({ family })} />
      {bases.length > 0 && <Choice label="Base" value={filter.base} options={bases} change={(base) => change({ base })} />}
      {folders.length > 1 && (
        <Choice label="Folder" value={filter.folder} options={folders} nameOf={labelOf} change={(folder) => change({ folder })} />
      )}
      {wanted !== null && (
        <label class="refit-check">
          <input
            type="checkbox"
            checked={filter.fits !== null}
            onChange={(event) => change({ fits: event.currentTarget.checked ? wanted : null })}
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

const AdapterRow = memo(function Row({ entry, notes, chosen, choose }: AdapterRowProps) {
  useNotes(notes, entry.id);
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
});

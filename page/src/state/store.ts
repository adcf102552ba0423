// What a page knows: facts of the plugin, lists of the sidecar. Events mark lists as old; a list is asked for again at most twice a second, the catalog entry by entry.

import type { CatalogEntry, Channel, Client, Engine, Facts, Folder, RefitError, Stamped, Status, Work } from "../wire/client.ts";
import { oldEntries, refreshed } from "./catalog.ts";
import { onceAFrame } from "./frames.ts";
import { knownName } from "./names.ts";
import { createNotes, type Notes } from "./notes.ts";
import { createShelf, type Shelf } from "./shelf.ts";
import type { ToldEvent } from "../messages/toasts.ts";

const quietMs = 500;
const keptEvents = 500;
/** Entries that are asked for by id at once; beyond that the whole catalog is read. */
const askedAtOnce = 1000;

export interface State {
  facts: Facts;
  engines: readonly Engine[];
  /** Adapters and checkpoints, in the order of their names. */
  catalog: readonly CatalogEntry[];
  folders: readonly Folder[];
  work: Work;
  /** Newest last. */
  history: readonly Stamped[];
  status: Status | null;
  error: Error | null;
  dismissed: ReadonlySet<string>;
  /** Grows when the open workflow of the UI has changed, which the page asks for itself. */
  workflow: number;
}

export interface Store {
  readonly state: State;
  readonly notes: Notes;
  readonly shelf: Shelf;
  readonly client: Client;
  /** Facts and lists anew. The catalog is read as a whole only where no events tell what changed in it. */
  readonly refresh: () => Promise<void>;
  readonly nameOf: (id: string) => Promise<string>;
  readonly dismissFailures: () => void;
  readonly workflowChanged: () => void;
  readonly subscribe: (listener: () => void) => () => void;
  readonly onEvent: (listener: (event: ToldEvent) => void) => void;
  readonly follow: (channel: Channel) => void;
}

type List = "engines" | "catalog" | "work" | "history";

/** Which events make which list old. */
const listsByTopic: Readonly<Record<string, readonly List[]>> = {
  arrival: ["catalog"],
  catalog: ["catalog"],
  delta: ["catalog"],
  refit: ["engines"],
  engine: ["engines"],
  host: ["engines"],
  live: ["engines"],
  job: ["work", "engines"],
};

async function everyEntry(client: Client): Promise<CatalogEntry[]> {
  const entries: CatalogEntry[] = [];
  for (let after: string | undefined; ;) {
    const page = await client.read("catalog.list", { limit: 1000, ...(after === undefined ? {} : { after }) });
    entries.push(...page.entries);
    if (!page.next) return entries;
    after = page.next;
  }
}

/** What is drawn stays what it is where nothing has changed. */
const keptIfEqual = <Value>(before: Value, now: Value): Value => (JSON.stringify(before) === JSON.stringify(now) ? before : now);

export function createStore(client: Client): Store {
  const state: State = {
    facts: { connection: { state: "starting", text: "…" }, lastRun: null, events: [] },
    engines: [],
    catalog: [],
    folders: [],
    work: { jobs: [], queued: 0 },
    history: [],
    status: null,
    error: null,
    dismissed: new Set(),
    workflow: 0,
  };
  const notes = createNotes(client);
  const shelf = createShelf(notes);
  const listeners = new Set<() => void>();
  const eventListeners = new Set<(event: ToldEvent) => void>();
  const old = new Set<List>();
  let timer: ReturnType<typeof setTimeout> | null = null;
  let followed = false;
  /** Entries that events named since they were asked for; null: all of them are unknown. */
  let oldIds: Set<string> | null = null;
  let givesById = true;
  let reading: Promise<void> = Promise.resolve();
  let unread: Stamped[] = [];

  /** What the catalog is now: as a whole, or with these entries anew. */
  async function catalogWith(asked: ReadonlySet<string> | null): Promise<readonly CatalogEntry[]> {
    if (asked === null || asked.size > askedAtOnce || !givesById) return everyEntry(client);
    try {
      const { entries } = await client.read("catalog.list", { ids: [...asked], limit: askedAtOnce });
      return refreshed(state.catalog, asked, entries);
    } catch (error) {
      // An older sidecar does not know `ids`.
      givesById = (error as Partial<RefitError>).code !== "WIRE_PARAMS_INVALID";
      return everyEntry(client);
    }
  }

  async function readCatalog(): Promise<void> {
    const asked = oldIds;
    if (asked?.size === 0) return;
    oldIds = new Set();
    try {
      state.catalog = await catalogWith(asked);
    } catch (error) {
      oldIds = null;
      throw error;
    }
    shelf.setCatalog(state.catalog);
    state.folders = keptIfEqual(state.folders, (await client.read("folders.list")).folders);
  }

  const readers: Readonly<Record<List, () => Promise<void>>> = {
    engines: async () => {
      state.engines = keptIfEqual(state.engines, (await client.read("engine.list")).engines);
      state.status = await client.read("status");
    },
    // One after the other: an answer that was on its way longer is no older than the next.
    catalog: () => (reading = reading.then(readCatalog, readCatalog)),
    work: async () => {
      state.work = await client.read("jobs.list");
    },
    history: async () => {
      const topics = ["arrival", "catalog", "delta", "refit", "engine", "host", "live"] as const;
      state.history = (await client.read("events.history", { topics: [...topics], limit: keptEvents })).events;
      unread = [];
    },
  };

  const changed = onceAFrame(() => {
    for (const listener of listeners) listener();
  });

  async function load(names: readonly List[]): Promise<void> {
    try {
      await Promise.all(names.map((name) => readers[name]()));
      state.error = null;
    } catch (error) {
      state.error = error as Error;
    }
    changed();
  }

  function mark(names: readonly List[]): void {
    for (const name of names) old.add(name);
    timer ??= setTimeout(() => {
      timer = null;
      const wanted = [...old];
      old.clear();
      if (unread.length > 0) state.history = [...state.history, ...unread].slice(-keptEvents);
      unread = [];
      void load(wanted);
    }, quietMs);
  }

  function heard(stamped: Stamped): void {
    const { event } = stamped;
    if (event.type !== "job.changed" && event.type !== "job.many") unread.push(stamped);
    if (event.type === "catalog.changed") notes.forget([...event.changed, ...event.removed]);
    for (const id of oldEntries(event)) oldIds?.add(id);
    for (const listener of eventListeners) listener(event);
    // Drawn with the lists that it made old: a folder that is read tells hundreds of events a second.
    mark(listsByTopic[event.type.split(".")[0] ?? ""] ?? []);
  }

  async function refresh(): Promise<void> {
    const generation = state.status?.catalog;
    try {
      state.facts = await client.facts();
    } catch (error) {
      state.facts = { ...state.facts, connection: { state: "lost", text: (error as Error).message } };
    }
    if (state.facts.connection.state !== "connected") return changed();
    await load(["engines", "work", "history"]);
    // Without events only the counts tell that something is new.
    if (!followed && JSON.stringify(generation) !== JSON.stringify(state.status?.catalog)) oldIds = null;
    await load(["catalog"]);
  }

  /** Nobody told what happened meanwhile. */
  function refreshAll(): void {
    oldIds = null;
    void refresh();
  }

  return {
    state,
    client,
    notes,
    shelf,
    refresh,
    /** Name of a catalogue entry; its id when the catalogue does not have it. */
    async nameOf(id) {
      const find = () => knownName(state.catalog, id);
      if (find() === undefined) {
        oldIds?.add(id);
        await load(["catalog"]);
      }
      return find() ?? id;
    },
    /** Failed work that was read is not shown again; the sidecar keeps its record. */
    dismissFailures() {
      const failed = state.work.jobs.filter((job) => job.state === "failed").map(({ id }) => id);
      state.dismissed = new Set([...state.dismissed, ...failed]);
      changed();
    },
    workflowChanged() {
      state.workflow += 1;
      changed();
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    onEvent: (listener) => void eventListeners.add(listener),
    /** Listens to what the plugin pushes through ComfyUI's WebSocket, what createPoll asks for where there is none, or what the sidecar's own socket says. */
    follow(channel) {
      followed = true;
      channel.addEventListener("refit.connection", ({ detail }) => {
        state.facts = { ...state.facts, connection: detail };
        if (detail.state === "connected") refreshAll();
        else changed();
      });
      channel.addEventListener("refit.run", ({ detail }) => {
        state.facts = { ...state.facts, lastRun: detail };
        for (const listener of eventListeners) listener({ type: "run", run: detail });
        changed();
        // The run has given its engine back, or is about to: no event of the sidecar says so.
        mark(["engines"]);
      });
      channel.addEventListener("refit.event", ({ detail }) => heard(detail));
      channel.addEventListener("reconnected", refreshAll);
    },
  };
}

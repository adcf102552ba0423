// What a page knows: facts of the plugin, lists of the sidecar. Events mark lists as old; a list is asked for again at most twice a second.

import type { CatalogEntry, Channel, Client, Engine, Facts, Folder, Job, Stamped, Status } from "../wire/client.ts";
import { createNotes, type Notes } from "./notes.ts";
import type { ToldEvent } from "../messages/toasts.ts";

const quietMs = 500;
const keptEvents = 500;

export interface State {
  facts: Facts;
  engines: readonly Engine[];
  /** Adapters and checkpoints, in the order of their names. */
  catalog: readonly CatalogEntry[];
  folders: readonly Folder[];
  jobs: readonly Job[];
  /** Newest last. */
  history: readonly Stamped[];
  status: Status | null;
  error: Error | null;
  readonly dismissed: Set<string>;
}

export interface Store {
  readonly state: State;
  readonly notes: Notes;
  readonly client: Client;
  readonly refresh: () => Promise<void>;
  readonly nameOf: (id: string) => Promise<string>;
  readonly dismissFailures: () => void;
  readonly subscribe: (listener: () => void) => () => void;
  readonly onEvent: (listener: (event: ToldEvent) => void) => void;
  readonly follow: (channel: Channel) => void;
}

type List = "engines" | "catalog" | "jobs" | "history";

/** Which events make which list old. */
const listsByTopic: Readonly<Record<string, readonly List[]>> = {
  arrival: ["catalog"],
  catalog: ["catalog"],
  delta: ["catalog"],
  refit: ["engines"],
  engine: ["engines"],
  host: ["engines"],
  live: ["engines"],
  job: ["jobs", "engines"],
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

export function createStore(client: Client): Store {
  const state: State = {
    facts: { connection: { state: "starting", text: "…" }, lastRun: null, events: [] },
    engines: [],
    catalog: [],
    folders: [],
    jobs: [],
    history: [],
    status: null,
    error: null,
    dismissed: new Set(),
  };
  const notes = createNotes(client);
  const listeners = new Set<() => void>();
  const eventListeners = new Set<(event: ToldEvent) => void>();
  const old = new Set<List>();
  let timer: ReturnType<typeof setTimeout> | null = null;

  const readers: Readonly<Record<List, () => Promise<void>>> = {
    engines: async () => {
      state.engines = (await client.read("engine.list")).engines;
      state.status = await client.read("status");
    },
    catalog: async () => {
      state.catalog = await everyEntry(client);
      state.folders = (await client.read("folders.list")).folders;
    },
    jobs: async () => {
      state.jobs = (await client.read("jobs.list")).jobs;
    },
    history: async () => {
      const topics = ["arrival", "catalog", "delta", "refit", "engine", "host", "live"] as const;
      state.history = (await client.read("events.history", { topics: [...topics], limit: keptEvents })).events;
    },
  };

  function changed(): void {
    for (const listener of listeners) listener();
  }

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
      void load(wanted);
    }, quietMs);
  }

  function heard(stamped: Stamped): void {
    if (stamped.event.type !== "job.changed" && stamped.event.type !== "job.many")
      state.history = [...state.history.slice(1 - keptEvents), stamped];
    if (stamped.event.type === "catalog.changed") notes.forget([...stamped.event.changed, ...stamped.event.removed]);
    for (const listener of eventListeners) listener(stamped.event);
    // Drawn with the lists that it made old: a folder that is read tells hundreds of events a second.
    mark(listsByTopic[stamped.event.type.split(".")[0] ?? ""] ?? []);
  }

  async function refresh(): Promise<void> {
    try {
      state.facts = await client.facts();
    } catch (error) {
      state.facts = { ...state.facts, connection: { state: "lost", text: (error as Error).message } };
    }
    if (state.facts.connection.state === "connected") await load(["engines", "catalog", "jobs", "history"]);
    else changed();
  }

  return {
    state,
    client,
    notes,
    refresh,
    /** Name of a catalogue entry; its id when the catalogue does not have it. */
    async nameOf(id) {
      const find = () => state.catalog.find((entry) => entry.id === id)?.name;
      if (find() === undefined) await load(["catalog"]);
      return find() ?? id;
    },
    /** Failed work that was read is not shown again; the sidecar keeps its record. */
    dismissFailures() {
      for (const job of state.jobs) if (job.state === "failed") state.dismissed.add(job.id);
      changed();
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    onEvent: (listener) => void eventListeners.add(listener),
    /** Listens to what the plugin pushes through ComfyUI's WebSocket, what createPoll asks for where there is none, or what the sidecar's own socket says. */
    follow(channel) {
      channel.addEventListener("refit.connection", ({ detail }) => {
        state.facts = { ...state.facts, connection: detail };
        if (detail.state === "connected") void refresh();
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
      channel.addEventListener("reconnected", () => void refresh());
    },
  };
}

// What the page knows: facts of the plugin, lists of the sidecar. Events mark lists as old; a list is asked for again at most twice a second.

const quietMs = 500;

/** Which events make which list old. */
const listsByTopic = {
  arrival: ["catalog"],
  catalog: ["catalog"],
  delta: ["catalog"],
  refit: ["engines", "history"],
  engine: ["engines"],
  host: ["engines"],
  live: ["engines"],
  job: ["jobs", "engines"],
};

async function everyEntry(client) {
  const entries = [];
  for (let after; ;) {
    const page = await client.read("catalog.list", { kind: "adapter", limit: 1000, ...(after === undefined ? {} : { after }) });
    entries.push(...page.entries);
    if (!page.next) return entries;
    after = page.next;
  }
}

export function createStore(client) {
  const state = {
    facts: { connection: { state: "starting", text: "…" }, lastRun: null, events: [] },
    engines: [],
    catalog: [],
    jobs: [],
    history: [],
    status: null,
    error: null,
    dismissed: new Set(),
  };
  const listeners = new Set();
  const eventListeners = new Set();
  const old = new Set();
  let timer = null;

  const readers = {
    engines: async () => {
      state.engines = (await client.read("engine.list")).engines;
      state.status = await client.read("status");
    },
    catalog: async () => {
      state.catalog = await everyEntry(client);
    },
    jobs: async () => {
      state.jobs = (await client.read("jobs.list")).jobs;
    },
    history: async () => {
      state.history = (await client.read("events.history", { topics: ["refit"], limit: 50 })).events;
    },
  };

  function changed() {
    for (const listener of listeners) listener(state);
  }

  async function load(names) {
    try {
      await Promise.all(names.map((name) => readers[name]()));
      state.error = null;
    } catch (error) {
      state.error = error;
    }
    changed();
  }

  function mark(names) {
    for (const name of names) old.add(name);
    timer ??= setTimeout(() => {
      timer = null;
      const wanted = [...old];
      old.clear();
      load(wanted);
    }, quietMs);
  }

  async function refresh() {
    try {
      state.facts = await client.facts();
    } catch (error) {
      state.facts.connection = { state: "lost", text: error.message };
    }
    if (state.facts.connection.state === "connected") await load(Object.keys(readers));
    else changed();
  }

  return {
    state,
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
      return () => listeners.delete(listener);
    },
    onEvent(listener) {
      eventListeners.add(listener);
    },
    /** Listens to what the plugin pushes through ComfyUI's WebSocket, or what createPoll asks for where there is none. */
    follow(api) {
      api.addEventListener("refit.connection", ({ detail }) => {
        state.facts.connection = detail;
        if (detail.state === "connected") refresh();
        else changed();
      });
      api.addEventListener("refit.run", ({ detail }) => {
        state.facts.lastRun = detail;
        for (const listener of eventListeners) listener({ type: "run", run: detail });
        changed();
        // The run has given its engine back, or is about to: no event of the sidecar says so.
        mark(["engines"]);
      });
      api.addEventListener("refit.event", ({ detail }) => {
        for (const listener of eventListeners) listener(detail.event);
        mark(listsByTopic[detail.event.type.split(".")[0]] ?? []);
      });
      api.addEventListener("reconnected", refresh);
    },
  };
}

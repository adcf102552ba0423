// The dashboard: one WebSocket session, opened with a one-time ticket, that shows what `status`, `jobs.list`, `catalog.list` and the events tell.
// Everything from the sidecar enters the page as text.

const byId = (id) => document.getElementById(id);
const proof = localStorage.getItem("refit-proof") ?? "";
const pending = new Map();
let socket = null;
let lastId = 0;
let role = "read";

function element(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined && text !== null) node.textContent = String(text);
  if (className) node.className = className;
  return node;
}

function toast(text) {
  byId("toast").textContent = text;
  byId("toast").hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => {
    byId("toast").hidden = true;
  }, 8000);
}

/** An adapter that keeps less than this of its change is told; above it nobody sees a difference. */
const keptEnough = 0.95;

function servingTexts({ streamedBytes, quantised }) {
  const texts = [];
  if (streamedBytes > 0) texts.push(`${size(streamedBytes)} of weights copied for each step`);
  if (quantised !== null) {
    const output = quantised.outputError === null ? "" : `, of a step ${(quantised.outputError * 100).toFixed(1)} %`;
    texts.push(`${quantised.format} (${quantised.way}): error of the weights ${(quantised.weightError * 100).toFixed(1)} %${output}`);
  }
  return texts;
}

function fillTable(id, rows, emptyText) {
  const body = byId(id).tBodies[0];
  if (rows.length === 0) {
    const cell = element("td", emptyText, "empty");
    cell.colSpan = byId(id).tHead.rows[0].cells.length;
    const row = element("tr");
    row.append(cell);
    body.replaceChildren(row);
    return;
  }
  body.replaceChildren(
    ...rows.map((cells) => {
      const row = element("tr");
      row.append(
        ...cells.map((cell) => {
          if (!(cell instanceof Node)) return element("td", cell);
          const holder = element("td");
          holder.append(cell);
          return holder;
        }),
      );
      return row;
    }),
  );
}

const units = ["B", "KiB", "MiB", "GiB", "TiB"];
function size(bytes) {
  const power = bytes > 0 ? Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10)) : 0;
  return `${(bytes / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}
function duration(ms) {
  if (ms === null || ms === undefined) return "";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 120_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 60_000)} min`;
}
const clock = (iso) => new Date(iso).toLocaleTimeString();

function call(method, params = {}) {
  return new Promise((resolve, reject) => {
    if (socket?.readyState !== WebSocket.OPEN) return reject(new Error("not connected"));
    lastId += 1;
    pending.set(lastId, { resolve, reject });
    socket.send(JSON.stringify({ jsonrpc: "2.0", id: lastId, method, params }));
  });
}

function act(method, params) {
  call(method, params).then(refresh, (error) => toast(error.message));
}

function button(text, method, params) {
  const node = element("button", text);
  node.addEventListener("click", () => act(method, params));
  return node;
}

const names = new Map();
const nameOf = (id) => names.get(id) ?? `${id.slice(0, 12)}…`;
const stackText = (stack) => stack.map((item) => `${nameOf(item.sha256 ?? item.id)} × ${item.strength}`).join(", ") || "no adapters";

function showStatus(status) {
  const facts = [
    ["version", status.version],
    ["up", duration(status.uptimeMs)],
    ["clients", status.clients],
    ["adapters", `${status.catalog.adapters} (${status.catalog.deltasReady} ready)`],
    ["checkpoints", status.catalog.checkpoints],
    ["problems", status.catalog.problems],
    ["watching", status.watch.paused ? "paused" : `${status.watch.folders} folders`],
    ["memory", size(status.memory.processBytes)],
    ["engines", size(status.memory.enginesBytes)],
    ...status.hosts.map((host) => [
      `host ${host.kind}`,
      host.available ? (host.device ?? "ready") : (host.problem?.message ?? "not available"),
    ]),
  ];
  byId("facts").replaceChildren(
    ...facts.map(([label, value]) => {
      const box = element("div");
      box.append(element("span", label), element("b", value));
      return box;
    }),
  );
  fillTable(
    "engines",
    status.engines.map((engine) => {
      const state = element("div");
      state.append(element("b", engine.state, engine.state), element("div", engine.reason ?? ""));
      if (engine.serving)
        state.append(
          element("div", `${engine.serving.tier}, base ${engine.serving.base}`),
          ...servingTexts(engine.serving).map((text) => element("div", text)),
          ...engine.serving.refused.map(({ steps, reason }) => element("div", `${steps}: ${reason}`)),
        );
      const weights = element("div");
      if (engine.weights)
        weights.append(element("div", nameOf(engine.weights.checkpoint)), element("div", stackText(engine.weights.stack)));
      for (const [index, { projection }] of engine.losses.entries())
        if (projection < keptEnough)
          weights.append(element("div", `adapter ${index + 1}: ${Math.max(0, Math.round(projection * 100))} % of its change is kept`));
      const buttons = element("div");
      if (role === "control")
        buttons.append(
          button("Refit", "engine.refit", { engine: engine.id }),
          button("Rebuild", "engine.rebuild", { engine: engine.id }),
          button("Free", "engine.free", { engine: engine.id }),
        );
      return [
        `${engine.family ?? "?"} ${engine.precision} on ${engine.host} (${engine.device})`,
        state,
        weights,
        size(engine.memoryBytes),
        engine.lastRefit ? `${duration(engine.lastRefit.ms)}, ${clock(engine.lastRefit.at)}` : "",
        buttons,
      ];
    }),
    "no engine is loaded",
  );
}

function showJobs(jobs) {
  fillTable(
    "jobs",
    jobs.map((job) => [
      job.title,
      element("span", job.problem ? `${job.state}: ${job.problem.message}` : job.state, job.state),
      job.total > 0 ? `${job.stage} ${Math.round((100 * job.done) / job.total)} %` : job.stage,
      duration(job.remainingMs),
    ]),
    "nothing to do",
  );
}

let adapters = [];
function showAdapters() {
  const wanted = byId("filter").value.toLowerCase();
  const rows = adapters.filter((entry) => entry.name.toLowerCase().includes(wanted)).slice(0, 500);
  fillTable(
    "adapters",
    rows.map((entry) => [
      entry.name,
      entry.family ?? "unknown",
      entry.kinds.join(", "),
      size(entry.sizeBytes),
      element("span", entry.problem ? entry.problem.message : entry.delta, entry.problem ? "failed" : entry.delta),
    ]),
    "no adapters",
  );
}

async function loadCatalog() {
  const found = [];
  names.clear();
  for (let after; ;) {
    const page = await call("catalog.list", { limit: 1000, ...(after ? { after } : {}) });
    for (const entry of page.entries) {
      names.set(entry.id, entry.name);
      if (entry.sha256) names.set(entry.sha256, entry.name);
      if (entry.kind === "adapter") found.push(entry);
    }
    if (page.next === null) break;
    after = page.next;
  }
  adapters = found;
  showAdapters();
}

const told = [];
function detailsOf(event) {
  if (event.type === "refit.committed") return `${duration(event.ms)}, ${event.writes} layers, ${stackText(event.stack)}`;
  if (event.type === "catalog.changed")
    return `${event.added.length} new, ${event.changed.length} changed, ${event.removed.length} removed`;
  if (event.type === "engine.state") return [event.state, event.reason].filter(Boolean).join(": ");
  if (event.type === "delta.ready")
    return `${nameOf(event.id)}: ${event.cached ? "from the cache" : duration(event.ms)}, ${size(event.bytes)}`;
  return [event.id && nameOf(event.id), event.message].filter(Boolean).join(": ");
}
function showHistory() {
  fillTable(
    "history",
    told
      .slice(-100)
      .reverse()
      .map(({ at, event }) => [clock(at), event.type, detailsOf(event)]),
    "nothing happened yet",
  );
}

let refreshing = null;
/** Several events in a row cause one refresh. */
function refresh() {
  refreshing ??= new Promise((resolve) => setTimeout(resolve, 150))
    .then(async () => {
      refreshing = null;
      const [status, { jobs }] = await Promise.all([call("status"), call("jobs.list")]);
      showStatus(status);
      showJobs(jobs);
    })
    .catch((error) => toast(error.message));
  return refreshing;
}

function heard(stamped) {
  told.push(stamped);
  if (told.length > 500) told.shift();
  showHistory();
  if (stamped.event.type === "catalog.changed" || stamped.event.type.startsWith("delta."))
    loadCatalog().catch((error) => toast(error.message));
  void refresh();
}

function received({ data }) {
  const message = JSON.parse(data);
  if (message.method === "event") return heard(message.params);
  if (message.method === "events.missed") return void loadCatalog().then(refresh);
  const waiting = pending.get(message.id);
  pending.delete(message.id);
  if (message.error) waiting?.reject(new Error(`${message.error.message} ${message.error.data?.remedy ?? ""}`));
  else waiting?.resolve(message.result);
}

const topics = ["arrival", "catalog", "delta", "refit", "engine", "host", "live", "job"];
async function greet() {
  const hello = await call("hello", { protocolVersions: [1], client: { name: "dashboard", version: "1" }, capabilities: ["events"] });
  role = hello.role;
  byId("actions").hidden = role !== "control";
  byId("connection").textContent = role === "control" ? "connected" : "connected, read only";
  await call("events.subscribe", { topics });
  const { events } = await call("events.history", { topics });
  told.splice(0, told.length, ...events);
  await loadCatalog();
  showHistory();
  await refresh();
}

async function connect() {
  const reply = await fetch("/ticket", {
    method: "POST",
    headers: { "content-type": "application/json", "x-refit-proof": proof },
    body: "{}",
  });
  if (reply.status === 401) {
    // The cookie alone shows this page, but only the browser that logged in may call.
    localStorage.removeItem("refit-proof");
    location.replace("/login");
    return false;
  }
  const { ticket } = await reply.json();
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`, ["refit.v1", `refit.ticket.${ticket}`]);
  socket.addEventListener("message", received);
  await new Promise((resolve) => {
    socket.addEventListener("open", () => greet().catch((error) => toast(error.message)));
    socket.addEventListener("close", resolve);
  });
  for (const { reject } of pending.values()) reject(new Error("the connection was lost"));
  pending.clear();
  byId("connection").textContent = "connection lost, trying again";
  return true;
}

byId("filter").addEventListener("input", showAdapters);
for (const node of document.querySelectorAll("[data-call]"))
  node.addEventListener("click", () => act(node.dataset.call, node.dataset.call === "engine.free" ? { engine: null } : {}));

for (let waitMs = 500, on = true; on; waitMs = Math.min(waitMs * 2, 10_000)) {
  on = await connect().then(
    (again) => {
      if (socket) waitMs = 250;
      return again;
    },
    () => true,
  );
  if (on) await new Promise((resolve) => setTimeout(resolve, waitMs));
}

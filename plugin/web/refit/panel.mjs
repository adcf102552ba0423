// The sidebar tab of ComfyUI, the tab of A1111 and Forge, and the page of its own (dashboard.html): the same element, drawn from the store's state. Text only, never HTML from data.

import { engineRows, failureRows, historyRows, jobRows, adapterRows, runLine } from "./rows.mjs";

const buttons = ["Refit.Warm", "Refit.RefitNow", "Refit.PauseWatching", "Refit.FreeMemory", "Refit.Rebuild", "Refit.OpenDashboard"];

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function line(row) {
  const out = element("div", `refit-row refit-${row.tone}`);
  out.append(element("span", "refit-name", row.name), element("span", "refit-state", row.state));
  if (row.detail) out.append(element("span", "refit-detail", row.detail));
  if (row.progress !== undefined) {
    const bar = element("progress", "refit-progress");
    bar.max = 1;
    bar.value = row.progress;
    out.append(bar);
  }
  out.title = row.title ?? row.name;
  return out;
}

function section(title, rows, empty) {
  const out = element("section", "refit-section");
  out.append(element("h3", "", title), ...(rows.length === 0 ? [element("p", "refit-empty", empty)] : rows.map(line)));
  return out;
}

/** Folded: what went wrong once may be of no interest any more. */
function failures(rows, open, dismiss) {
  if (rows.length === 0) return [];
  const out = element("details", "refit-failures");
  out.open = open;
  const button = element("button", "refit-button refit-dismiss", "Dismiss");
  button.type = "button";
  button.addEventListener("click", dismiss);
  out.append(element("summary", "", `${rows.length} failed`), ...rows.map(line), button);
  return [out];
}

/** Draws into `host` until destroyed. `commands.list` gives the buttons; a page without a workflow leaves out what needs one. `ui`: the UI's name. */
export function createPanel(host, { store, commands, ui }) {
  const root = element("div", "refit-panel");
  const bar = element("div", "refit-buttons");
  const facts = element("div", "refit-facts");
  // The filter stays where it is while the rest is drawn anew: a field that leaves the page loses the cursor.
  const filter = element("input", "refit-filter");
  filter.placeholder = "Filter LoRAs";
  filter.type = "search";
  const title = element("h3", "refit-title");
  const adapters = element("div", "refit-adapters");
  root.append(bar, facts, title, filter, adapters);
  host.replaceChildren(root);

  for (const id of buttons) {
    const command = commands.list.find((one) => one.id === id);
    if (!command) continue;
    const button = element("button", "refit-button", command.label.replace(/ of (this workflow|this checkpoint|engines)$/, ""));
    button.type = "button";
    button.dataset.command = id;
    button.title = command.tooltip;
    button.addEventListener("click", async () => {
      button.disabled = true;
      await commands.run(id);
      button.disabled = false;
    });
    bar.append(button);
  }

  function draw(state) {
    const connection = state.facts.connection;
    const paused = state.status?.watch.paused === true;
    const pause = bar.querySelector('[data-command="Refit.PauseWatching"]');
    if (pause) pause.textContent = paused ? "Resume watching" : "Pause watching";
    const unfolded = facts.querySelector(".refit-failures")?.open === true;
    const failed = failures(failureRows(state.jobs, state.dismissed), unfolded, () => store.dismissFailures());
    facts.replaceChildren(
      element("p", `refit-connection refit-${connection.state}`, connection.text),
      ...(state.error ? [element("p", "refit-error", state.error.message)] : []),
      section("Last run", runLine(state.facts.lastRun, ui), "No run yet."),
      section("Engines", engineRows(state.engines, state.catalog), "No engine is loaded."),
      section("Work in the background", jobRows(state.jobs), "Nothing to do."),
      ...failed,
      section("Refits", historyRows(state.history), "No refit yet."),
    );
    title.textContent = `LoRAs${paused ? " (watching is paused)" : ""}`;
    const rows = adapterRows(state.catalog, filter.value);
    adapters.replaceChildren(
      ...(rows.length > 0
        ? rows.map(line)
        : [element("p", "refit-empty", filter.value ? "No LoRA of that name." : "No LoRA in the watched folders.")]),
    );
  }

  filter.addEventListener("input", () => draw(store.state));
  const unsubscribe = store.subscribe(draw);
  draw(store.state);
  store.refresh();
  return { destroy: unsubscribe };
}

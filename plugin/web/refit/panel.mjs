// The sidebar tab, and the page of its own (dashboard.html): the same element, drawn from the store's state. Text only, never HTML from data.

import { engineRows, historyRows, jobRows, adapterRows, runLine } from "./rows.mjs";

const buttons = ["Refit.Warm", "Refit.RefitNow", "Refit.PauseWatching", "Refit.FreeMemory", "Refit.Rebuild", "Refit.OpenDashboard"];

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function section(title, rows, empty) {
  const out = element("section", "refit-section");
  out.append(element("h3", "", title));
  if (rows.length === 0) out.append(element("p", "refit-empty", empty));
  for (const row of rows) {
    const line = element("div", `refit-row refit-${row.tone}`);
    line.append(element("span", "refit-name", row.name), element("span", "refit-state", row.state));
    if (row.detail) line.append(element("span", "refit-detail", row.detail));
    if (row.progress !== undefined) {
      const bar = element("progress", "refit-progress");
      bar.max = 1;
      bar.value = row.progress;
      line.append(bar);
    }
    line.title = row.title ?? row.name;
    out.append(line);
  }
  return out;
}

/** Draws into `host` until destroyed. `commands.list` gives the buttons; a page without a workflow leaves out what needs one. */
export function createPanel(host, { store, commands }) {
  const root = element("div", "refit-panel");
  const bar = element("div", "refit-buttons");
  const body = element("div", "refit-body");
  const filter = element("input", "refit-filter");
  filter.placeholder = "Filter LoRAs";
  filter.type = "search";
  root.append(bar, body);
  host.replaceChildren(root);

  for (const id of buttons) {
    const command = commands.list.find((one) => one.id === id);
    if (!command) continue;
    const button = element("button", "refit-button", command.label.replace(" of this workflow", "").replace(" of engines", ""));
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
    const head = element("p", `refit-connection refit-${connection.state}`, connection.text);
    const paused = state.status?.watch.paused === true;
    const pause = bar.querySelector('[data-command="Refit.PauseWatching"]');
    if (pause) pause.textContent = paused ? "Resume watching" : "Pause watching";
    const lists = [
      section("Last run", runLine(state.facts.lastRun), "No run yet."),
      section("Engines", engineRows(state.engines), "No engine is loaded."),
      section("Work in the background", jobRows(state.jobs), "Nothing to do."),
      section("Refits", historyRows(state.history), "No refit yet."),
    ];
    const adapters = section(`LoRAs${paused ? " (watching is paused)" : ""}`, adapterRows(state.catalog, filter.value), "No LoRA in the watched folders.");
    adapters.querySelector("h3").after(filter);
    const focused = document.activeElement === filter;
    body.replaceChildren(head, ...(state.error ? [element("p", "refit-error", state.error.message)] : []), ...lists, adapters);
    if (focused) filter.focus();
  }

  filter.addEventListener("input", () => draw(store.state));
  const unsubscribe = store.subscribe(draw);
  draw(store.state);
  store.refresh();
  return { destroy: unsubscribe };
}

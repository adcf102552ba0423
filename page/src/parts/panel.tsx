// The sidebar tab of ComfyUI, and the tab of A1111 and Forge: LoRAs first, engines below, what operators need in a menu. Text only, never HTML from data.

import { render } from "preact";
import { useState } from "preact/hooks";
import { labelOf, type Command, type Commands } from "../commands/engine-commands.ts";
import { engineRows, failureRows, historyRows, jobRows, runLine } from "../state/rows.ts";
import type { Store } from "../state/store.ts";
import type { CatalogEntry } from "../wire/client.ts";
import { nameParts } from "../state/library.ts";
import { recentStacks } from "../state/recent-stacks.ts";
import { nameOf } from "./names.ts";
import { Library } from "./library.tsx";
import { Failures, Rows, Section } from "./row.tsx";
import { useStore } from "./use-store.ts";

/** What a page can do with an adapter. */
export interface AdapterAction {
  readonly label: string;
  readonly run: (entry: CatalogEntry) => void;
}

/** What a page with an open workflow can do in it. */
export interface WorkflowActions {
  readonly add: (loras: readonly { readonly name: string; readonly strength: number }[]) => void;
  /** Runs of this workflow that are not on an engine are not told. */
  readonly isQuiet: () => boolean;
  readonly setQuiet: (quiet: boolean) => void;
}

export interface Shell {
  readonly store: Store;
  /** A page without a workflow leaves out what needs one. */
  readonly commands: Commands;
  /** The UI's name. */
  readonly ui: string;
  readonly fits: () => ReadonlySet<string> | null;
  readonly actions?: readonly AdapterAction[];
  readonly workflow?: WorkflowActions;
}

const first = ["Refit.UseEngines"];
const operator = ["Refit.Warm", "Refit.RefitNow", "Refit.PauseWatching", "Refit.FreeMemory", "Refit.Rebuild", "Refit.OpenDashboard"];

/** Draws into `host` until destroyed. */
export function createPanel(host: Element, shell: Shell): { readonly destroy: () => void } {
  render(<Panel {...shell} />, host);
  void shell.store.refresh();
  return { destroy: () => render(null, host) };
}

function Panel(shell: Shell) {
  const { store, commands, ui } = shell;
  const state = useStore(store);
  const { connection } = state.facts;
  const paused = state.status?.watch.paused === true;
  const of = (ids: readonly string[]) => ids.flatMap((id) => commands.list.find((one) => one.id === id) ?? []);
  return (
    <div class="refit-panel refit-look refit-narrow">
      <p class={`refit-connection refit-${connection.state}`} role="status">
        {connection.text}
      </p>
      {state.error && (
        <p class="refit-error" role="alert">
          {state.error.message}
        </p>
      )}
      <div class="refit-buttons">
        {of(first).map((command) => (
          <CommandButton key={command.id} command={command} label="Use engines here" primary />
        ))}
        <details class="refit-menu">
          <summary class="refit-button">Engines …</summary>
          <div class="refit-menu-items">
            {of(operator).map((command) => (
              <CommandButton key={command.id} command={command} label={shortLabel(command, paused)} />
            ))}
          </div>
        </details>
      </div>
      <Section title={paused ? "LoRAs (watching is paused)" : "LoRAs"}>
        <Library store={store} fits={shell.fits} actions={shell.actions ?? []} />
      </Section>
      {shell.workflow && <RecentStacks store={store} workflow={shell.workflow} />}
      <Rows title="Last run" rows={runLine(state.facts.lastRun, ui)} empty="No run yet." />
      {shell.workflow && state.facts.lastRun?.served_by === "local" && <Quiet workflow={shell.workflow} />}
      <Rows title="Engines" rows={engineRows(state.engines, state.catalog)} empty="No engine is loaded." />
      <Rows title="Work in the background" rows={jobRows(state.jobs)} empty="Nothing to do." />
      <Failures rows={failureRows(state.jobs, state.dismissed)} dismiss={() => store.dismissFailures()} />
      <Rows title="Refits" rows={historyRows(state.history)} empty="No refit yet." />
    </div>
  );
}

const shortLabel = (command: Command, paused: boolean): string =>
  labelOf(command, paused).replace(/ of (this workflow|this checkpoint|engines)$/, "");

/** Stacks that engines had lately; a click puts their LoRAs into the workflow. */
function RecentStacks({ store, workflow }: { readonly store: Store; readonly workflow: WorkflowActions }) {
  const stacks = recentStacks(store.state.history);
  if (stacks.length === 0) return null;
  return (
    <Section title="Recent stacks">
      {stacks.map(({ items, at }) => {
        const loras = items.map(({ id, strength }) => ({ name: nameOf(store.state, id), strength }));
        const text = loras.map(({ name, strength }) => `${nameParts(name).title} × ${strength}`).join(", ");
        return (
          <button key={at} type="button" class="refit-recent" title="Add to the workflow" onClick={() => workflow.add(loras)}>
            {text}
          </button>
        );
      })}
    </Section>
  );
}

function Quiet({ workflow }: { readonly workflow: WorkflowActions }) {
  const [quiet, become] = useState(workflow.isQuiet);
  return (
    <label class="refit-check">
      <input
        type="checkbox"
        checked={quiet}
        onChange={(event) => {
          workflow.setQuiet(event.currentTarget.checked);
          become(event.currentTarget.checked);
        }}
      />
      Do not tell again for this workflow
    </label>
  );
}

interface CommandButtonProps {
  readonly command: Command;
  readonly label: string;
  readonly primary?: boolean;
}

function CommandButton({ command, label, primary = false }: CommandButtonProps) {
  const [busy, setBusy] = useState(false);
  const press = async () => {
    setBusy(true);
    await command.function();
    setBusy(false);
  };
  return (
    <button
      type="button"
      class={`refit-button ${primary ? "refit-primary" : ""}`}
      data-command={command.id}
      title={command.tooltip}
      disabled={busy}
      onClick={() => void press()}
    >
      {label}
    </button>
  );
}

// The sidebar tab of ComfyUI, and the tab of A1111 and Forge: LoRAs first, engines below, what operators need in a menu. Text only, never HTML from data.

import { render } from "preact";
import { useState } from "preact/hooks";
import { labelOf, type Command, type Commands } from "../commands/engine-commands.ts";
import { engineRows, failureRows, historyRows, jobRows, runLine } from "../state/rows.ts";
import type { State, Store } from "../state/store.ts";
import type { CatalogEntry } from "../wire/client.ts";
import { nameParts } from "../state/library.ts";
import { recentStacks } from "../state/recent-stacks.ts";
import { nameOf } from "../state/names.ts";
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
  readonly workflow?: WorkflowActions | undefined;
}

const noActions: readonly AdapterAction[] = [];
const first = ["Refit.UseEngines"];
const operator = ["Refit.Warm", "Refit.RefitNow", "Refit.PauseWatching", "Refit.FreeMemory", "Refit.Rebuild", "Refit.OpenDashboard"];

/** Draws into `host` until destroyed. */
export function createPanel(host: Element, shell: Shell): { readonly destroy: () => void } {
  render(<Panel {...shell} />, host);
  void shell.store.refresh();
  return { destroy: () => render(null, host) };
}

/** Each part is drawn anew for what it shows, and for nothing else. */
function Panel(shell: Shell) {
  const { store, workflow, ui } = shell;
  return (
    <div class="refit-panel refit-look refit-narrow">
      <Connection store={store} />
      <Buttons {...shell} />
      <Loras {...shell} />
      {workflow && <RecentStacks store={store} workflow={workflow} />}
      <LastRun store={store} ui={ui} workflow={workflow} />
      <EngineList store={store} />
      <Work store={store} />
      <Refits store={store} />
    </div>
  );
}

function Connection({ store }: Pick<Shell, "store">) {
  const { facts, error } = useStore(store, "facts", "error");
  return (
    <>
      <p class={`refit-connection refit-${facts.connection.state}`} role="status">
        {facts.connection.text}
      </p>
      {error && (
        <p class="refit-error" role="alert">
          {error.message}
        </p>
      )}
    </>
  );
}

const isPaused = ({ status }: State): boolean => status?.watch.paused === true;

function Buttons({ store, commands }: Shell) {
  const paused = isPaused(useStore(store, "status"));
  const of = (ids: readonly string[]) => ids.flatMap((id) => commands.list.find((one) => one.id === id) ?? []);
  return (
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
  );
}

function Loras({ store, fits, actions = noActions }: Shell) {
  const paused = isPaused(useStore(store, "status"));
  return (
    <Section title={paused ? "LoRAs (watching is paused)" : "LoRAs"}>
      <Library store={store} fits={fits} actions={actions} />
    </Section>
  );
}

function LastRun({ store, ui, workflow }: Pick<Shell, "store" | "ui" | "workflow">) {
  const { lastRun } = useStore(store, "facts", "workflow").facts;
  return (
    <>
      <Rows title="Last run" rows={runLine(lastRun, ui)} empty="No run yet." />
      {workflow && lastRun?.served_by === "local" && <Quiet workflow={workflow} />}
    </>
  );
}

function EngineList({ store }: Pick<Shell, "store">) {
  const { engines, catalog } = useStore(store, "engines", "catalog");
  return <Rows title="Engines" rows={engineRows(engines, catalog)} empty="No engine is loaded." />;
}

function Work({ store }: Pick<Shell, "store">) {
  const { work, dismissed } = useStore(store, "work", "dismissed");
  return (
    <>
      <Rows title="Work in the background" rows={jobRows(work)} empty="Nothing to do." />
      <Failures rows={failureRows(work.jobs, dismissed)} dismiss={() => store.dismissFailures()} />
    </>
  );
}

function Refits({ store }: Pick<Shell, "store">) {
  const { history } = useStore(store, "history");
  return <Rows title="Refits" rows={historyRows(history)} empty="No refit yet." />;
}

const shortLabel = (command: Command, paused: boolean): string =>
  labelOf(command, paused).replace(/ of (this workflow|this checkpoint|engines)$/, "");

/** Stacks that engines had lately; a click puts their LoRAs into the workflow. */
function RecentStacks({ store, workflow }: { readonly store: Store; readonly workflow: WorkflowActions }) {
  const state = useStore(store, "history", "catalog");
  const stacks = recentStacks(state.history);
  if (stacks.length === 0) return null;
  return (
    <Section title="Recent stacks">
      {stacks.map(({ items, at }) => {
        const loras = items.map(({ id, strength }) => ({ name: nameOf(state, id), strength }));
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
  const quiet = workflow.isQuiet();
  return (
    <label class="refit-check">
      <input type="checkbox" checked={quiet} onChange={(event) => workflow.setQuiet(event.currentTarget.checked)} />
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

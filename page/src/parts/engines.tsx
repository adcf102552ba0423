// Loaded engines: what each holds, how it serves, and the buttons of operators.

import type { Engine } from "../wire/client.ts";
import { keptEnough, ms, size } from "../state/rows.ts";
import type { State } from "../state/store.ts";
import type { Shell } from "./panel.tsx";
import { useStore } from "./use-store.ts";

/** The catalog's name for an id or a hash. */
export function nameOf(state: State, key: string): string {
  return state.catalog.find((entry) => entry.id === key || entry.sha256 === key)?.name ?? `${key.slice(0, 12)}…`;
}

export function Engines(shell: Shell) {
  const { store, commands } = shell;
  const state = useStore(store);
  const mayChange = store.client.mayChange();
  return (
    <>
      {mayChange && (
        <div class="refit-buttons" id="actions">
          {commands.list.map((command) => (
            <button key={command.id} type="button" class="refit-button" data-command={command.id} onClick={() => void command.function()}>
              {command.id === "Refit.PauseWatching" ? `${state.status?.watch.paused ? "Resume" : "Pause"} watching` : command.label}
            </button>
          ))}
        </div>
      )}
      {state.engines.length === 0 && <p class="refit-empty">No engine is loaded. The first run loads one.</p>}
      <div class="refit-cards">
        {state.engines.map((engine) => (
          <EngineCard key={engine.id} engine={engine} state={state} shell={shell} />
        ))}
      </div>
    </>
  );
}

interface EngineCardProps {
  readonly engine: Engine;
  readonly state: State;
  readonly shell: Shell;
}

function EngineCard({ engine, state, shell }: EngineCardProps) {
  const { client } = shell.store;
  const act = async (method: "engine.refit" | "engine.rebuild" | "engine.free") => {
    await client.change(method, { engine: engine.id }).catch(() => undefined);
    await shell.store.refresh();
  };
  return (
    <article class={`refit-card refit-${engine.state}`} data-engine={engine.id}>
      <header>
        <h2>{engine.weights ? nameOf(state, engine.weights.checkpoint) : "no weights yet"}</h2>
        <span class={`refit-badge refit-${engine.state}`}>{engine.state}</span>
      </header>
      <p class="refit-detail">
        {[
          engine.family ?? "unknown family",
          engine.precision,
          engine.host,
          engine.device,
          size(engine.memoryBytes),
          engine.leases > 0 ? "in use" : "idle",
        ].join(" · ")}
      </p>
      {engine.reason !== null && <p>{engine.reason}</p>}
      <Stack engine={engine} state={state} />
      <Serving engine={engine} />
      {engine.lastRefit && (
        <p class="refit-detail">
          Last refit: {ms(engine.lastRefit.ms)}, {engine.lastRefit.writes} weights, at {new Date(engine.lastRefit.at).toLocaleTimeString()}
        </p>
      )}
      {client.mayChange() && (
        <div class="refit-card-buttons">
          <button type="button" class="refit-button" onClick={() => void act("engine.refit")}>
            Refit
          </button>
          <button type="button" class="refit-button" onClick={() => void act("engine.rebuild")}>
            Rebuild
          </button>
          <button type="button" class="refit-button" onClick={() => void act("engine.free")}>
            Free
          </button>
        </div>
      )}
    </article>
  );
}

function Stack({ engine, state }: { readonly engine: Engine; readonly state: State }) {
  const stack = engine.weights?.stack ?? [];
  if (stack.length === 0) return <p class="refit-detail">No LoRA.</p>;
  return (
    <ul class="refit-stack">
      {stack.map(({ sha256, strength }, index) => {
        const kept = engine.losses?.find((loss) => loss.adapter === sha256)?.projection ?? 1;
        return (
          <li key={`${sha256}${index}`}>
            <span class="refit-name">{nameOf(state, sha256)}</span> × {strength}
            {kept < keptEnough && <span class="refit-warn-text"> keeps {Math.max(0, Math.round(kept * 100))} % of its change</span>}
          </li>
        );
      })}
    </ul>
  );
}

function Serving({ engine }: { readonly engine: Engine }) {
  const { serving } = engine;
  if (!serving) return null;
  const { quantised } = serving;
  const texts = [
    `${serving.tier}, base ${serving.base}`,
    serving.streamedBytes > 0 ? `${size(serving.streamedBytes)} of weights copied for each step` : "",
    quantised ? `${quantised.format} (${quantised.way}): error of the weights ${(quantised.weightError * 100).toFixed(1)} %` : "",
    quantised?.outputError ? `of a step ${(quantised.outputError * 100).toFixed(1)} %` : "",
    ...serving.refused.map(({ steps, reason }) => `${steps}: ${reason}`),
  ].filter(Boolean);
  return <p class="refit-detail">{texts.join(" · ")}</p>;
}

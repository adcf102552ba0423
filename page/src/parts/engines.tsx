// Loaded engines: what each holds, how it serves, and the buttons of operators.

import type { Engine } from "../wire/client.ts";
import { ms, size, time } from "../state/rows.ts";
import type { State, Store } from "../state/store.ts";
import { labelOf } from "../commands/engine-commands.ts";
import type { Shell } from "./panel.tsx";
import { Histogram, Timeline } from "./chart.tsx";
import { nameOf } from "../state/names.ts";
import { Section } from "./row.tsx";
import { EngineStack } from "./stack-sliders.tsx";
import { useAnswer } from "./use-answer.ts";
import { useStore } from "./use-store.ts";

export function Engines(shell: Shell) {
  const { store, commands } = shell;
  const state = useStore(store, "engines", "status", "catalog");
  const mayChange = store.client.mayChange();
  return (
    <>
      {mayChange && (
        <div class="refit-buttons" id="actions">
          {commands.list.map((command) => (
            <button key={command.id} type="button" class="refit-button" data-command={command.id} onClick={() => void command.function()}>
              {labelOf(command, state.status?.watch.paused === true)}
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
      <Times store={store} />
    </>
  );
}

/** Timeline and histograms; asked again after every refit. */
function Times({ store }: { readonly store: Store }) {
  const { status } = store.state;
  const told = `${status?.totals?.refits ?? 0} ${status?.totals?.steps ?? 0}`;
  const history = useAnswer(() => store.client.read("engine.history"), [told]);
  const times = useAnswer(() => store.client.read("telemetry.figures"), [told]);
  return (
    <Section title="Refits">
      <Timeline records={history.value?.records ?? []} />
      <h3>Times</h3>
      <div class="refit-cards">
        {(times.value?.figures ?? []).map((figure) => (
          <Histogram key={figure.name} figure={figure} />
        ))}
      </div>
    </Section>
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
      <EngineStack engine={engine} store={shell.store} />
      <Serving engine={engine} />
      {engine.lastRefit && (
        <p class="refit-detail">
          Last refit: {ms(engine.lastRefit.ms)}, {engine.lastRefit.writes} weights, at {time(engine.lastRefit.at)}
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

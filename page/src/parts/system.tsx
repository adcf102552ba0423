// Facts of the sidecar: versions, counts, memory, hosts.

import { ms, plural, size, time } from "../state/rows.ts";
import type { Store } from "../state/store.ts";
import { coded, type Status } from "../wire/client.ts";
import { Section } from "./row.tsx";
import { useAnswer } from "./use-answer.ts";
import { useStore } from "./use-store.ts";

export function System({ store }: { readonly store: Store }) {
  const { status, history } = useStore(store, "status", "history");
  if (status === null) return <p class="refit-empty">Not connected.</p>;
  return (
    <>
      <Overview status={status} />
      {store.client.ownServer && (
        <p>
          <a class="refit-link" href="/api">
            What can be asked of this sidecar (API)
          </a>
        </p>
      )}
      <Caches store={store} />
      <Settings store={store} />
      <LogTail store={store} told={history.at(-1)?.atMs ?? 0} />
    </>
  );
}

function Overview({ status }: { readonly status: Status }) {
  return (
    <Section title="Overview" id="facts">
      <dl class="refit-facts">
        {factsOf(status).map(([label, value]) => (
          <div key={label}>
            <dt>{label}</dt>
            <dd class={value.length > 40 ? "refit-long" : ""}>{value}</dd>
          </div>
        ))}
      </dl>
    </Section>
  );
}

function Caches({ store }: { readonly store: Store }) {
  const { value } = useAnswer(() => store.client.read("cache.list"), []);
  return (
    <Section title="Caches">
      <dl class="refit-facts">
        {(value?.parts ?? []).map(({ name, entries, bytes, limitBytes }) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{`${entries}, ${size(bytes)} of ${size(limitBytes)}`}</dd>
          </div>
        ))}
      </dl>
    </Section>
  );
}

/** A page behind a UI's server is not shown these two: that UI may be open to other computers. */
const elsewhere = "Shown in the sidecar's own dashboard.";

function Settings({ store }: { readonly store: Store }) {
  const { value, error } = useAnswer(() => store.client.read("settings.list"), []);
  const settings = (value?.settings ?? []).toSorted((a, b) => Number(b.changed) - Number(a.changed));
  return (
    <Section title="Settings">
      {error !== null && <p class="refit-empty">{elsewhere}</p>}
      {settings.length > 0 && (
        <div class="refit-scroll" tabIndex={0} role="region" aria-label="Settings">
          <table class="refit-table">
            <thead>
              <tr>
                <th scope="col">Option</th>
                <th scope="col">Value</th>
                <th scope="col">What it does</th>
              </tr>
            </thead>
            <tbody>
              {settings.map(({ name, value: text, changed, reload, help }) => (
                <tr key={name}>
                  <th scope="row">{name}</th>
                  <td class={changed ? "refit-changed" : ""}>{text ?? "not set"}</td>
                  <td class="refit-detail">{help + (reload ? " (taken while it runs)" : "")}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Section>
  );
}

function LogTail({ store, told }: { readonly store: Store; readonly told: number }) {
  const { value, error } = useAnswer(() => store.client.read("telemetry.log", { limit: 200 }), [told]);
  const lines = value?.lines ?? [];
  return (
    <Section title="Log">
      {error !== null && <p class="refit-empty">{elsewhere}</p>}
      {lines.length > 0 && (
        <ol class="refit-log refit-scroll" tabIndex={0} aria-label="Last lines of the log">
          {lines.toReversed().map(({ at, level, text }, index) => (
            <li key={`${at}${index}`} class={`refit-log-${level}`}>
              <time dateTime={at}>{time(at)}</time> <b>{level}</b> {text}
            </li>
          ))}
        </ol>
      )}
    </Section>
  );
}

function deviceText({ hardware, state, problem, runs, waiting, enginesBytes, memory, tiers }: Status["devices"][number]): string {
  const free = memory === null ? [] : [`${size(memory.freeBytes)} of ${size(memory.totalBytes)} free`];
  const work = [plural(runs, "run"), `${plural(waiting, "step")} waiting`, `engines ${size(enginesBytes)}`];
  return [hardware ?? "no host yet", problem === null ? state : `${state} (${problem})`, ...work, ...free, ...tiers].join(", ");
}

function factsOf(status: Status): [string, string][] {
  const { catalog, memory, watch } = status;
  return [
    ["version", status.version],
    ["up", ms(status.uptimeMs)],
    ["clients", String(status.clients)],
    ["LoRAs", `${catalog.adapters} (${catalog.deltasReady} ready)`],
    ["checkpoints", String(catalog.checkpoints)],
    ["problems", String(catalog.problems)],
    ["watching", watch.paused ? "paused" : `${watch.folders} folders`],
    ["refits", String(status.totals?.refits ?? 0)],
    ["steps", String(status.totals?.steps ?? 0)],
    ["memory of the sidecar", size(memory.processBytes)],
    ["memory of engines", `${size(memory.enginesBytes)} of ${size(memory.budgetBytes)}`],
    ...status.hosts.map((host): [string, string] => [
      `host ${host.kind}`,
      host.available ? (host.device ?? "ready") : host.problem ? coded(host.problem) : "not available",
    ]),
    // An earlier sidecar tells of none.
    ...(status.devices ?? []).map((device): [string, string] => [`device ${device.name}`, deviceText(device)]),
  ];
}

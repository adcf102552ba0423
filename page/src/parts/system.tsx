// Facts of the sidecar: versions, counts, memory, hosts.

import { ms, size } from "../state/rows.ts";
import type { Store } from "../state/store.ts";
import { coded, type Status } from "../wire/client.ts";
import { useStore } from "./use-store.ts";

export function System({ store }: { readonly store: Store }) {
  const { status } = useStore(store);
  if (status === null) return <p class="refit-empty">Not connected.</p>;
  return (
    <section class="refit-section" id="facts">
      <h3>Overview</h3>
      <dl class="refit-facts">
        {factsOf(status).map(([label, value]) => (
          <div key={label}>
            <dt>{label}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
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
    ["refits", String(status.totals.refits)],
    ["steps", String(status.totals.steps)],
    ["memory of the sidecar", size(memory.processBytes)],
    ["memory of engines", `${size(memory.enginesBytes)} of ${size(memory.budgetBytes)}`],
    ...status.hosts.map((host): [string, string] => [
      `host ${host.kind}`,
      host.available ? (host.device ?? "ready") : host.problem ? coded(host.problem) : "not available",
    ]),
  ];
}

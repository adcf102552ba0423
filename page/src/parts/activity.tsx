// Work in the background, and what happened.

import { failureRows, jobRows, ms, size, time } from "../state/rows.ts";
import type { State, Store } from "../state/store.ts";
import type { WireEvent } from "../wire/client.ts";
import { nameOf } from "../state/names.ts";
import { Failures, Rows, Section } from "./row.tsx";
import { useStore } from "./use-store.ts";

const shownEvents = 100;

export function Activity({ store }: { readonly store: Store }) {
  const state = useStore(store, "work", "dismissed", "history", "catalog");
  return (
    <>
      <Rows title="Work in the background" rows={jobRows(state.work)} empty="Nothing to do." />
      <Failures rows={failureRows(state.work.jobs, state.dismissed)} dismiss={() => store.dismissFailures()} />
      <Section title="What happened">
        {state.history.length === 0 && <p class="refit-empty">Nothing happened yet.</p>}
        <ol class="refit-history" id="history">
          {state.history
            .slice(-shownEvents)
            .reverse()
            .map(({ at, atMs, event }) => (
              <li key={`${atMs} ${event.type}`}>
                <time dateTime={at}>{time(at)}</time>
                <b>{event.type}</b>
                <span>{detailOf(state, event)}</span>
              </li>
            ))}
        </ol>
      </Section>
    </>
  );
}

/** What an event says beyond its type. */
function detailOf(state: State, event: WireEvent): string {
  if (event.type === "refit.committed") {
    const stack = event.stack.map(({ id, strength }) => `${nameOf(state, id)} × ${strength}`).join(", ");
    return `${ms(event.ms)}, ${event.writes} weights, ${stack || "no LoRA"}`;
  }
  if (event.type === "catalog.changed")
    return `${event.added.length} new, ${event.changed.length} changed, ${event.removed.length} removed`;
  if (event.type === "engine.state") return [event.state, event.reason].filter(Boolean).join(": ");
  if (event.type === "delta.ready")
    return `${nameOf(state, event.id)}: ${event.cached ? "from the cache" : ms(event.ms)}, ${size(event.bytes)}`;
  const about = "id" in event ? nameOf(state, event.id) : "";
  return [about, "message" in event ? event.message : ""].filter(Boolean).join(": ");
}

// Stands in for an event channel where the UI's server has none: asks for the facts, and tells what is new under the names of ComfyUI's pushed events.

import type { Channel, Client, Facts, View } from "./client.ts";

const everyMs = 1000;
const busyEveryMs = 400;
const lostEveryMs = 4000;
const busy = new Set(["warming", "refitting"]);

/** Answers of a server without pushes tell what the accordion shows, and how many events there were. */
export type PolledFacts = Facts & { readonly view: View; readonly told: number };

interface Poll extends Channel {
  readonly start: () => Promise<void>;
}

interface Waits {
  readonly hidden?: () => boolean;
  readonly later?: (work: () => void, ms: number) => unknown;
}

/** `hidden()`: nobody looks, so nobody asks. `later(work, ms)` is setTimeout. Events: refit.facts (every answer), refit.connection, refit.run, refit.event. */
export function createPoll(client: Pick<Client, "facts">, { hidden = () => document.hidden, later = setTimeout }: Waits = {}): Poll {
  const channel = new EventTarget();
  const say = (name: string, detail: unknown) => channel.dispatchEvent(new CustomEvent(name, { detail }));
  let told: number | null = null;
  let connection = "";
  let runAt: number | undefined;

  function compare(facts: PolledFacts): number {
    // What happened before the page was opened, or before the UI's server was started again, is no news.
    const first = told === null || facts.told < told;
    if (JSON.stringify(facts.connection) !== connection) say("refit.connection", facts.connection);
    if (!first && facts.lastRun !== null && facts.lastRun.at !== runAt) say("refit.run", facts.lastRun);
    if (!first) for (const event of facts.events) say("refit.event", event);
    // The UI's server keeps the last events only, and none over a restart.
    if (told !== null && (facts.told < told || facts.told - told > facts.events.length)) say("reconnected", null);
    told = facts.told;
    connection = JSON.stringify(facts.connection);
    runAt = facts.lastRun?.at;
    say("refit.facts", facts);
    return busy.has(facts.view.state) ? busyEveryMs : everyMs;
  }

  async function once(): Promise<number> {
    if (hidden()) return everyMs;
    try {
      return compare((await client.facts(told ?? 0)) as PolledFacts);
    } catch (error) {
      connection = "";
      const { code, message } = error as { readonly code?: string; readonly message: string };
      say("refit.connection", { state: code === "PAGE_SIGN_IN" ? "sign-in" : "lost", text: message });
      return lostEveryMs;
    }
  }

  return {
    addEventListener: (name, listener) => channel.addEventListener(name, listener as EventListener),
    async start() {
      const waitMs = await once();
      later(() => void this.start(), waitMs);
    },
  };
}

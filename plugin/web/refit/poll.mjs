// Stands in for an event channel where the UI's server has none: asks for the facts, and tells what is new under the names of ComfyUI's pushed events.

const everyMs = 1000;
const busyEveryMs = 400;
const lostEveryMs = 4000;
const busy = new Set(["warming", "refitting"]);

/** `hidden()`: nobody looks, so nobody asks. `later(work, ms)` is setTimeout. Events: refit.facts (every answer), refit.connection, refit.run, refit.event. */
export function createPoll(client, { hidden = () => document.hidden, later = setTimeout } = {}) {
  const channel = new EventTarget();
  const say = (name, detail) => channel.dispatchEvent(new CustomEvent(name, { detail }));
  let told = null;
  let connection = "";
  let runAt;

  function compare(facts) {
    // What happened before the page was opened, or before the UI's server was started again, is no news.
    const first = told === null || facts.told < told;
    if (JSON.stringify(facts.connection) !== connection) say("refit.connection", facts.connection);
    if (!first && facts.lastRun !== null && facts.lastRun.at !== runAt) say("refit.run", facts.lastRun);
    if (!first) for (const event of facts.events) say("refit.event", event);
    told = facts.told;
    connection = JSON.stringify(facts.connection);
    runAt = facts.lastRun?.at;
    say("refit.facts", facts);
    return busy.has(facts.view.state) ? busyEveryMs : everyMs;
  }

  async function once() {
    if (hidden()) return everyMs;
    try {
      return compare(await client.facts(told ?? 0));
    } catch (error) {
      connection = "";
      say("refit.connection", { state: error.code === "PAGE_SIGN_IN" ? "sign-in" : "lost", text: error.message });
      return lostEveryMs;
    }
  }

  return {
    addEventListener: channel.addEventListener.bind(channel),
    async start() {
      later(() => this.start(), await once());
    },
  };
}

import { expect, test } from "vitest";
import type { Facts } from "../../../page/src/wire/client.ts";
import { createPoll } from "../../../page/src/wire/poll.ts";

const connection = { state: "connected", text: "Connected." };
const facts = (over: object = {}) => ({ connection, lastRun: null, events: [], told: 0, view: { state: "idle" }, ...over });
const event = (type: string) => ({ event: { type } });

/** Answers in order; `turn` runs one round and gives what was told, what was asked, and the pause until the next round. */
function world(answers: readonly (object | Error)[], hidden = () => false) {
  const asked: number[] = [];
  const heard: [string, unknown][] = [];
  const waiting: { work: () => void; ms: number }[] = [];
  const rest = [...answers];
  const client = {
    facts: async (after = 0) => {
      asked.push(after);
      const answer = rest.shift();
      if (answer instanceof Error) throw answer;
      return answer as Facts;
    },
  };
  const poll = createPoll(client, {
    hidden,
    later: ((work: () => void, ms: number) => waiting.push({ work, ms })) as unknown as typeof setTimeout,
  });
  for (const name of ["refit.connection", "refit.run", "refit.event", "reconnected"])
    poll.addEventListener(name, (told: Event) => heard.push([name, (told as CustomEvent).detail]));
  let started = false;
  return {
    asked,
    async turn() {
      heard.length = 0;
      if (started) waiting.shift()?.work();
      else void poll.start();
      started = true;
      await new Promise((next) => setImmediate(next));
      return { heard: [...heard], pauseMs: waiting[0]?.ms };
    },
  };
}

test("what was there when the page opened is no news; what comes later is, once", async () => {
  const run = { at: 1, served_by: "local" };
  const { turn, asked } = world([
    facts({ told: 7, lastRun: run, events: [event("old")] }),
    facts({ told: 8, lastRun: run, events: [event("refit.failed")] }),
    facts({ told: 8, lastRun: { ...run, at: 2 } }),
    facts({ told: 8, lastRun: { ...run, at: 2 } }),
  ]);
  expect((await turn()).heard).toEqual([["refit.connection", connection]]);
  expect((await turn()).heard).toEqual([["refit.event", event("refit.failed")]]);
  expect((await turn()).heard).toEqual([["refit.run", { ...run, at: 2 }]]);
  expect((await turn()).heard).toEqual([]);
  expect(asked).toEqual([0, 7, 8, 8]);
});

test("a UI that was started again counts anew, and repeats no news", async () => {
  const { turn, asked } = world([
    facts({ told: 9 }),
    facts({ told: 2, lastRun: { at: 3 }, events: [event("a"), event("b")] }),
    facts({ told: 3, lastRun: { at: 3 }, events: [event("c")] }),
  ]);
  await turn();
  expect((await turn()).heard).toEqual([["reconnected", null]]);
  expect((await turn()).heard).toEqual([["refit.event", event("c")]]);
  expect(asked).toEqual([0, 9, 2]);
});

test("events that the UI's server did not keep are told as missed, so that lists are read anew", async () => {
  const { turn } = world([facts({ told: 1 }), facts({ told: 300, events: [event("a"), event("b")] })]);
  await turn();
  expect((await turn()).heard).toEqual([
    ["refit.event", event("a")],
    ["refit.event", event("b")],
    ["reconnected", null],
  ]);
});

test("a UI that does not answer is said once it is lost, asked more rarely, and welcomed back", async () => {
  const { turn } = world([facts(), new Error("the web UI does not answer."), facts()]);
  await turn();
  const lost = await turn();
  expect(lost.heard).toEqual([["refit.connection", { state: "lost", text: "the web UI does not answer." }]]);
  expect(lost.pauseMs).toBeGreaterThan(2000);
  expect((await turn()).heard).toEqual([["refit.connection", connection]]);
});

test("a UI that asks for a password says so", async () => {
  const { turn } = world([Object.assign(new Error("Sign in."), { code: "PAGE_SIGN_IN" })]);
  expect((await turn()).heard).toEqual([["refit.connection", { state: "sign-in", text: "Sign in." }]]);
});

test("work under way is looked at more often; a page that nobody looks at does not ask", async () => {
  let hidden = false;
  const { turn, asked } = world([facts(), facts({ view: { state: "refitting" } })], () => hidden);
  const idle = (await turn()).pauseMs ?? 0;
  expect((await turn()).pauseMs).toBeLessThan(idle);
  hidden = true;
  await turn();
  expect(asked).toHaveLength(2);
});

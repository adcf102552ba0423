// Which loop begins next, with a clock of the test's own: refits, fairness and deadlines of whole queues.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Admission, type LoopRequest } from "../../../sidecar/src/sampling/index.ts";
import { naiveAdmission, type Running } from "./naive-admission.ts";

interface Job extends Partial<LoopRequest> {
  readonly group: string;
  readonly client: string;
  readonly arrivesMs?: number;
}

interface Done extends Job {
  readonly startMs: number;
  readonly endMs: number;
}

const loopMs = 400;
const refitMs = 100;
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Runs jobs on places that each make one picture in `loopMs`, and need `refitMs` more after other weights. Loops of one place share its engine. */
async function simulate(jobs: readonly Job[], { places = 1, turnMs = 1000 } = {}) {
  let now = 0;
  const admission = new Admission({ places: () => places, turnMs: () => turnMs, maxWaiting: 512, nowMs: () => now });
  const events: { readonly atMs: number; readonly run: () => void }[] = [];
  const at = (atMs: number, run: () => void): void => {
    events.push({ atMs, run });
    events.sort((a, b) => a.atMs - b.atMs);
  };
  const done: Done[] = [];
  const engines = new Map<string, { freeAtMs: number }>();
  let refits = 0;
  const last: string[] = [];
  for (const job of jobs)
    at(job.arrivesMs ?? 0, () => {
      const request = { priority: "normal", deadlineMs: null, ...job } as const;
      void admission.enter(request, new AbortController().signal).then(({ prepared, end }) => {
        const startMs = now;
        // A place whose last loop had other weights changes them.
        const isNew = !last.includes(job.group);
        if (isNew) {
          refits += 1;
          last.push(job.group);
          if (last.length > places) last.shift();
        }
        const engine = engines.get(job.group) ?? { freeAtMs: 0 };
        engines.set(job.group, engine);
        engine.freeAtMs = Math.max(engine.freeAtMs, now) + loopMs + (isNew ? refitMs : 0);
        prepared(isNew ? refitMs : 0);
        at(engine.freeAtMs, () => {
          done.push({ ...job, startMs, endMs: now });
          end();
        });
      });
    });
  while (events.length > 0) {
    const event = events.shift();
    if (event === undefined) break;
    now = Math.max(now, event.atMs);
    event.run();
    await settled();
  }
  expect(done.length).toBe(jobs.length);
  return { done, refits, perLoop: refits / jobs.length, lastMs: Math.max(...done.map(({ endMs }) => endMs)) };
}

const many = (count: number, of: (index: number) => Job): Job[] => Array.from({ length: count }, (_, index) => of(index));

describe("a queue of loops", () => {
  it("groups those on the same weights: 8 clients, 20 stacks, 160 loops need fewer than 0.3 refits each", async () => {
    const jobs = many(160, (index) => ({ group: `stack ${(index * 7) % 20}`, client: `client ${index % 8}` }));
    const { perLoop, done } = await simulate(jobs);
    expect(perLoop).toBeLessThan(0.3);
    expect(new Set(done.map(({ client }) => client)).size).toBe(8);
  });

  it("lets no group keep its place while others wait: a stream of one stack holds another back by about a turn", async () => {
    const stream = many(60, (index) => ({ group: "a", client: "greedy", arrivesMs: index * 200 }));
    const { done } = await simulate([...stream, { group: "b", client: "other", arrivesMs: 500 }]);
    const other = done.find(({ group }) => group === "b");
    expect((other?.startMs ?? Infinity) - 500).toBeLessThan(1000 + 2 * loopMs + refitMs);
  });

  it("is fair by client: one that sends forty and one that sends four, each picture with weights of its own", async () => {
    const { done } = await simulate([
      ...many(40, (index) => ({ group: `g${index}`, client: "forty" })),
      ...many(4, (index) => ({ group: `f${index}`, client: "four" })),
    ]);
    const order = done.toSorted((a, b) => a.endMs - b.endMs).map(({ client }) => client);
    expect(order.lastIndexOf("four")).toBeLessThan(10);
  });

  it("takes what is due soon first, and a higher priority before everything", async () => {
    const { done } = await simulate([
      ...many(10, (index) => ({ group: `g${index}`, client: "a" })),
      { group: "due", client: "a", deadlineMs: 1500 },
      { group: "low", client: "b", priority: "low" },
      { group: "high", client: "a", priority: "high", arrivesMs: 10 },
    ]);
    const order = done.map(({ group }) => group);
    expect(order.indexOf("high")).toBe(1);
    expect(order.indexOf("due")).toBe(2);
    expect(order.at(-1)).toBe("low");
    expect(done.find(({ group }) => group === "due")?.endMs).toBeLessThanOrEqual(1500);
  });

  it("gives each device a group of its own", async () => {
    const jobs = many(40, (index) => ({ group: `stack ${index % 4}`, client: "a" }));
    const [one, two] = [await simulate(jobs), await simulate(jobs, { places: 2 })];
    expect(two.lastMs).toBeLessThan(one.lastMs * 0.6);
    expect(two.refits).toBeLessThanOrEqual(one.refits);
  });
});

it("a loop that is cancelled while it waits is gone, and one too many is refused at once", async () => {
  const admission = new Admission({ places: () => 1, turnMs: () => 1000, maxWaiting: 1, nowMs: () => 0 });
  const request = (group: string): LoopRequest => ({ group, client: "c", priority: "normal", deadlineMs: null });
  const never = new AbortController().signal;
  const running = await admission.enter(request("a"), never);
  const cancel = new AbortController();
  const waiting = admission.enter(request("b"), cancel.signal);
  await expect(admission.enter(request("c"), never)).rejects.toMatchObject({ code: "STEP_QUEUE_FULL" });
  cancel.abort();
  await expect(waiting).rejects.toMatchObject({ code: "HOST_CANCELLED" });
  expect(admission.waiting).toBe(0);
  await expect(admission.enter(request("b"), AbortSignal.abort())).rejects.toMatchObject({ code: "HOST_CANCELLED" });
  const next = admission.enter(request("c"), never);
  running.end();
  running.end();
  (await next).end();
});

interface Crowd {
  readonly requests: readonly LoopRequest[];
  /** One after another: time passes, devices come and go, and one of the loops that run ends. `prepareMs`: what the change to a loop's weights took. */
  readonly turns: readonly { readonly ms: number; readonly prepareMs: number; readonly ends: number; readonly places: number }[];
}

const crowdOf = (count: number): fc.Arbitrary<Crowd> => {
  const request = fc.record({
    group: fc.nat(Math.ceil(count / 4)).map((index) => `g${index}`),
    client: fc.nat(7).map((index) => `c${index}`),
    priority: fc.constantFrom("high" as const, "normal" as const, "normal" as const, "low" as const),
    deadlineMs: fc.option(fc.nat(count * 500)),
  });
  const turn = fc.record({ ms: fc.nat(900), prepareMs: fc.nat(300), ends: fc.nat(5), places: fc.integer({ min: 1, max: 3 }) });
  const rows = { minLength: count, maxLength: count };
  return fc.record({ requests: fc.array(request, rows), turns: fc.array(turn, rows) });
};

/** The order in which loops that wait together begin, by Admission and by the naive rule. */
async function ordersOf({ requests, turns }: Crowd): Promise<[readonly number[], readonly number[]]> {
  let now = 0;
  let places = 1;
  const nowMs = () => now;
  const [own, naive]: [Running[], Running[]] = [[], []];
  const orders: [number[], number[]] = [[], []];
  const begins = (which: 0 | 1) => (loop: Running) => {
    orders[which].push(loop.number);
    [own, naive][which]?.push(loop);
    loop.prepared(turns[loop.number - 1]?.prepareMs ?? 0);
  };
  const admission = new Admission({ places: () => places, turnMs: () => 1000, maxWaiting: 512, nowMs });
  const oracle = naiveAdmission(() => places, 1000, nowMs, begins(1));
  requests.forEach((request, index) => {
    void admission.enter(request, new AbortController().signal).then((loop) => begins(0)({ number: index + 1, ...loop }));
    oracle.enter(request);
  });
  for (const { ms, ends, ...turn } of turns) {
    await settled();
    now += ms;
    places = turn.places;
    for (const running of [own, naive]) running.splice(ends % running.length, 1)[0]?.end();
  }
  await settled();
  return orders;
}

describe("the order of those that wait", () => {
  it("is the naive rule's, whatever waits", () =>
    fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 40 }).chain(crowdOf), async (crowd) => {
        const [own, naive] = await ordersOf(crowd);
        expect(own).toEqual(naive);
        expect(own).toHaveLength(crowd.requests.length);
      }),
      { numRuns: 200 },
    ));

  it("is the naive rule's for 512 loops", async () => {
    const [own, naive] = await ordersOf(fc.sample(crowdOf(512), { numRuns: 1, seed: 16 })[0] as Crowd);
    expect(own).toEqual(naive);
    expect(own).toHaveLength(512);
  });
});

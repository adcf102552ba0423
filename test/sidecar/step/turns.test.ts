import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Turns } from "../../../sidecar/src/step/index.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const make = (changes: Partial<{ turnMs: number; graceMs: number; maxWaiting: number }> = {}) =>
  new Turns({
    turnMs: () => changes.turnMs ?? 1000,
    graceMs: changes.graceMs ?? 20,
    maxWaiting: changes.maxWaiting ?? 64,
    nowMs: () => Date.now(),
  });
const pause = (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms));

const logged = (log: string[], state: string) => async (ready: (refitMs: number) => void) => {
  ready(0);
  log.push(state);
};

/** A sampler: steps of `stepMs` one after another, `refitMs` more when the engine has another state. Writes what runs to the log. */
function sampler(turns: Turns, log: { state: string; at: number; refit: boolean }[], refitMs: number) {
  let has: string | null = null;
  return async (state: string, steps: number, stepMs: number) => {
    const close = turns.open(state);
    for (let step = 0; step < steps; step += 1) {
      await turns.run(state, async (ready) => {
        const refit = has !== state;
        if (refit) await pause(refitMs);
        has = state;
        ready(refit ? refitMs : 0);
        await pause(stepMs);
        log.push({ state, at: Date.now(), refit });
      });
      await pause(2);
    }
    close();
  };
}

describe("Turns", () => {
  it("runs steps of one state in order of arrival, one at a time", async () => {
    const turns = make();
    const order: number[] = [];
    let inside = 0;
    const all = Promise.all(
      [1, 2, 3].map((number) =>
        turns.run("a", async () => {
          expect(++inside).toBe(1);
          await pause(5);
          inside -= 1;
          order.push(number);
        }),
      ),
    );
    await vi.runAllTimersAsync();
    await all;
    expect(order).toEqual([1, 2, 3]);
  });

  it.each([2, 8])(
    "%d runs with different stacks share fairly: bounded turns, no starvation, at least 0.8 of sequential throughput",
    async (count) => {
      const log: { state: string; at: number; refit: boolean }[] = [];
      const begin = Date.now();
      const run = sampler(make(), log, 100);
      const all = Promise.all(Array.from({ length: count }, (_, index) => run(`state ${index}`, 60, 50)));
      await vi.runAllTimersAsync();
      await all;
      const sequential = count * (100 + 60 * 52);
      expect((Math.max(...log.map((entry) => entry.at)) - begin) / sequential).toBeLessThan(1 / 0.8);
      for (let index = 0; index < count; index += 1) {
        const own = log.filter((entry) => entry.state === `state ${index}`);
        expect(own).toHaveLength(60);
        // A turn of the others is at most turn, last step and refit long.
        const gaps = own.map((entry, step) => entry.at - (own[step - 1]?.at ?? begin));
        expect(Math.max(...gaps)).toBeLessThanOrEqual(count * (1000 + 100 + 2 * 52));
      }
      const refits = log.filter((entry) => entry.refit).length;
      expect(refits).toBeLessThanOrEqual(Math.ceil(sequential / 1000) + count);
    },
  );

  it("makes turns longer where a refit is slow, so that refits never eat more than a fifth", async () => {
    const log: { state: string; at: number; refit: boolean }[] = [];
    const begin = Date.now();
    const run = sampler(make({ turnMs: 100 }), log, 2000);
    const all = Promise.all([run("a", 300, 50), run("b", 300, 50)]);
    await vi.runAllTimersAsync();
    await all;
    const refits = log.filter((entry) => entry.refit).length * 2000;
    expect(refits / (Math.max(...log.map((entry) => entry.at)) - begin)).toBeLessThan(0.21);
  });

  it("does not switch between two steps of a sampler, but does when its run ends", async () => {
    const turns = make();
    const log: string[] = [];
    const step = (state: string) => turns.run(state, logged(log, state));
    const closeA = turns.open("a");
    turns.open("b");
    await step("a");
    const b = step("b");
    await vi.advanceTimersByTimeAsync(10);
    await step("a");
    expect(log).toEqual(["a", "a"]);
    closeA();
    await b;
    expect(log).toEqual(["a", "a", "b"]);
  });

  it("holds the engine between two runs once their states come back at once, and learns when they no longer do", async () => {
    const turns = make({ graceMs: 20 });
    const log: string[] = [];
    const picture = async (state: string) => {
      const close = turns.open(state);
      await turns.run(state, logged(log, state));
      close();
    };
    const betweenPictures = () => vi.advanceTimersByTimeAsync(5);
    turns.open("b");
    for (let count = 0; count < 3; count += 1) {
      await picture("a");
      await betweenPictures();
    }
    const held = turns.run("b", logged(log, "b"));
    await betweenPictures();
    await picture("a");
    expect(log).toEqual(["a", "a", "a", "a"]);
    await vi.advanceTimersByTimeAsync(20);
    await held;
    for (let count = 0; count < 3; count += 1) {
      await vi.advanceTimersByTimeAsync(2000);
      await picture(`single ${count}`);
    }
    log.length = 0;
    await vi.advanceTimersByTimeAsync(2000);
    await picture("a");
    // Nobody came back for a while: whoever waits gets the engine with the end of the run.
    await turns.run("b", logged(log, "b"));
    expect(log).toEqual(["a", "b"]);
  });

  it("gives up an idle run's turn after the grace", async () => {
    const turns = make({ graceMs: 20 });
    const log: string[] = [];
    turns.open("a");
    turns.open("b");
    await turns.run("a", logged(log, "a"));
    const b = turns.run("b", logged(log, "b"));
    await vi.advanceTimersByTimeAsync(19);
    expect(log).toEqual(["a"]);
    await vi.advanceTimersByTimeAsync(1);
    await b;
    expect(log).toEqual(["a", "b"]);
  });

  it("counts the grace from the end of the last step: a state that came long after it does not wait", async () => {
    const turns = make({ graceMs: 20 });
    const log: string[] = [];
    turns.open("a");
    await turns.run("a", logged(log, "a"));
    await vi.advanceTimersByTimeAsync(15);
    const soon = turns.run("b", logged(log, "b"));
    await vi.advanceTimersByTimeAsync(5);
    await soon;
    turns.open("b");
    await turns.run("b", logged(log, "b"));
    await vi.advanceTimersByTimeAsync(20);
    await turns.run("c", logged(log, "c"));
    expect(log).toEqual(["a", "b", "b", "c"]);
  });

  it("does not hold the engine for a state that nobody has a run of", async () => {
    const turns = make();
    await turns.run("a", async () => undefined);
    await turns.run("b", async () => undefined);
    expect(turns.current).toBe("b");
  });

  it("takes the state that has waited longest when a turn is over", async () => {
    const turns = make({ turnMs: 0, graceMs: 0 });
    const log: string[] = [];
    const all = Promise.all(
      ["a", "b", "c", "b", "a", "c"].map((state) =>
        turns.run(state, async (ready) => {
          ready(0);
          await pause(1);
          log.push(state);
        }),
      ),
    );
    await vi.runAllTimersAsync();
    await all;
    expect(log).toEqual(["a", "b", "c", "b", "a", "c"]);
  });

  it("lets nobody starve: among eight states that always have a next step, each waits for the turns of the others and no longer", async () => {
    const turns = make({ turnMs: 500, graceMs: 20 });
    const log: { state: string; at: number; refit: boolean }[] = [];
    const run = sampler(turns, log, 50);
    const states = ["a", "b", "c", "d", "e", "f", "g", "h"];
    const all = Promise.all(states.map((state) => run(state, 60, 40)));
    await vi.advanceTimersByTimeAsync(60_000);
    await all;
    // A turn, the step that is under way at its end, the refit before it, and the sampler's own pause.
    const longest = 500 + 40 + 50 + 2;
    for (const state of states) {
      const times = log.filter((row) => row.state === state).map(({ at }) => at);
      expect(times).toHaveLength(60);
      const gaps = times.slice(1).map((at, index) => at - (times[index] ?? 0));
      expect(Math.max(...gaps)).toBeLessThanOrEqual(longest * (states.length - 1) + longest);
    }
    const refits = log.filter(({ refit }) => refit).length;
    expect(refits * 50).toBeLessThan(0.2 * states.length * 60 * 40);
  });

  it("makes no turn longer for a wait that was no refit: its host was away, and comes back once", async () => {
    const log: string[] = [];
    const turns = make({ turnMs: 100, graceMs: 20 });
    const steps = async (state: string, count: number, waitMs: number) => {
      const close = turns.open(state);
      for (let step = 0; step < count; step += 1)
        await turns.run(state, async (ready) => {
          if (step === 0) await pause(waitMs);
          ready(0);
          await pause(10);
          log.push(state);
        });
      close();
    };
    const all = Promise.all([steps("a", 100, 30_000), steps("b", 3, 0)]);
    await vi.runAllTimersAsync();
    await all;
    expect(log.indexOf("b")).toBeLessThan(20);
  });

  it("keeps no turn for a state whose weights never came", async () => {
    const turns = make({ turnMs: 1_000_000 });
    turns.open("a");
    await expect(turns.run("a", () => Promise.reject(new Error("no such file")))).rejects.toThrow();
    await turns.run("b", async () => undefined);
    expect(turns.current).toBe("b");
  });

  it("goes on after work that fails", async () => {
    const turns = make();
    const failed = turns.run("a", () => Promise.reject(new Error("broken")));
    const next = turns.run("b", async () => "fine");
    await expect(failed).rejects.toThrow("broken");
    await expect(next).resolves.toBe("fine");
  });

  it("refuses more waiting steps than allowed with STEP_QUEUE_FULL", async () => {
    const turns = make({ maxWaiting: 1 });
    const first = turns.run("a", () => pause(10));
    const second = turns.run("a", () => pause(10));
    await expect(turns.run("a", () => pause(10))).rejects.toMatchObject({ code: "STEP_QUEUE_FULL" });
    await vi.runAllTimersAsync();
    await Promise.all([first, second]);
  });

  it("lets a waiting step be cancelled, and one that was cancelled before it came", async () => {
    const turns = make();
    const controller = new AbortController();
    const first = turns.run("a", () => pause(10));
    const second = turns.run("a", () => pause(10), controller.signal);
    controller.abort();
    await expect(second).rejects.toMatchObject({ code: "HOST_CANCELLED" });
    await expect(turns.run("a", () => pause(10), AbortSignal.abort())).rejects.toMatchObject({ code: "HOST_CANCELLED" });
    expect(turns.waiting).toBe(0);
    await vi.runAllTimersAsync();
    await first;
  });
});

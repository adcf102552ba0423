import { expect, it } from "vitest";
import { createLeftAlone } from "../../../../sidecar/src/pipeline/warm/left-alone.ts";

function bench(afterMs = 1000) {
  const state = { clients: 0, inUse: false, now: 0, engines: 2, afterMs };
  const told: string[] = [];
  const alone = createLeftAlone({
    clients: () => state.clients,
    inUse: () => state.inUse,
    afterMs: () => state.afterMs,
    nowMs: () => state.now,
    told: (text) => void told.push(text),
    free: async () => {
      const { engines } = state;
      state.engines = 0;
      return engines;
    },
  });
  const at = async (now: number): Promise<number> => {
    state.now = now;
    await alone.look();
    return state.engines;
  };
  return { state, told, at };
}

it("engines leave after nobody was there for the time, and that is said once", async () => {
  const { told, at } = bench();
  expect([await at(500), await at(999), await at(1000), await at(3000)]).toEqual([2, 2, 0, 0]);
  expect(told).toEqual(["no client was connected for 1 s: 2 engines left the memory; the next request loads what it needs"]);
});

it("a client, a run or a live folder begins the time anew, and 0 keeps them for good", async () => {
  const { state, at } = bench();
  state.clients = 1;
  await at(5000);
  state.clients = 0;
  expect(await at(5900)).toBe(2);
  state.inUse = true;
  await at(6500);
  state.inUse = false;
  expect(await at(7400)).toBe(2);
  state.afterMs = 0;
  expect(await at(99_000)).toBe(2);
  state.afterMs = 1000;
  expect([await at(99_500), await at(100_100)]).toEqual([2, 0]);
});

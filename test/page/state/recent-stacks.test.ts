import { expect, test } from "vitest";
import { recentStacks } from "../../../page/src/state/recent-stacks.ts";

test("recent stacks come newest first, each once, without those that hold nothing", () => {
  const committed = (at: string, ...stack: { id: string; strength: number }[]) => ({
    at,
    atMs: 0,
    event: { type: "refit.committed" as const, engine: "e", ms: 1, writes: 1, bytes: 1, stack },
  });
  const [a, b] = [
    { id: "a", strength: 1 },
    { id: "b", strength: 0.5 },
  ];
  const stacks = recentStacks([committed("1", a), committed("2", a, b), committed("3"), committed("4", a)]);
  expect(stacks.map(({ at, items }) => [at, items.map(({ id }) => id).join()])).toEqual([
    ["4", "a"],
    ["2", "a,b"],
  ]);
});

import { describe, expect, test } from "vitest";
import { createPass, onceAFrame } from "../../../page/src/state/frames.ts";

test("work that is asked for many times is done once a frame", () => {
  const frames: (() => void)[] = [];
  let done = 0;
  const ask = onceAFrame(
    () => (done += 1),
    (work) => frames.push(work),
  );
  ask();
  ask();
  expect([done, frames.length]).toEqual([0, 1]);
  frames.pop()?.();
  ask();
  expect([done, frames.length]).toEqual([1, 1]);
});

describe("a pass over a long list", () => {
  const items = Array.from({ length: 1000 }, (_, index) => index);

  test("stops for the browser each time that a slice is over, and goes through all", async () => {
    let clock = 0;
    let pauses = 0;
    const pass = createPass({ now: () => clock, pause: async () => void (pauses += 1) });
    const seen: number[] = [];
    // A tenth of a millisecond an item: 8 ms are 80 items, and the clock is looked at every 64.
    expect(await pass(items, (item) => void (seen.push(item), (clock += 0.1)))).toBe(true);
    expect([seen.length, pauses]).toEqual([1000, 7]);
  });

  test("ends when a newer one begins", async () => {
    let clock = 0;
    const paused: (() => void)[] = [];
    const pass = createPass({ now: () => clock, pause: () => new Promise<void>((resolve) => paused.push(resolve)) });
    let seen = 0;
    const old = pass(items, () => void ((seen += 1), (clock += 1)));
    const newer = pass([1], () => undefined);
    paused.forEach((resolve) => resolve());
    expect([await old, await newer, seen]).toEqual([false, true, 64]);
  });
});

import { describe, expect, it } from "vitest";
import { lessBusy, placeRun } from "../../../sidecar/src/plan/index.ts";
import type { DeviceLook } from "../../../sidecar/src/plan/index.ts";

const gib = 1024 ** 3;
const rules = { by: "affinity", engineBytes: 5 * gib } as const;
type Look = DeviceLook<string>;
const empty = (name: string, more: Partial<Look> = {}): Look => ({
  name,
  drained: null,
  runs: 0,
  freeBytes: null,
  engines: 0,
  engine: null,
  ...more,
});
const holding = (name: string, states: readonly string[], more: Partial<Look> = {}): Look =>
  empty(name, { freeBytes: 60 * gib, engines: 1, engine: { states: new Set(states), restingMs: 0 }, ...more });

describe("placeRun", () => {
  it.each<[string, readonly Look[], string, string | null]>([
    ["the device that has structure and stack", [holding("0", ["a"]), holding("1", ["b"])], "1", null],
    ["it still, though it is a little busier", [holding("0", ["a"]), holding("1", ["b"], { runs: 2 })], "1", null],
    ["a refit instead of a long queue", [holding("0", ["a"]), holding("1", ["b"], { runs: 3 })], "0", null],
    ["the device that has the structure", [empty("0"), holding("1", ["a"])], "1", null],
    ["the least busy one of those that have it", [holding("0", ["a"], { runs: 2 }), holding("1", ["c"], { runs: 1 })], "1", null],
    [
      "of equals the one that rests longest: weights in use stay",
      [holding("0", ["a"]), holding("1", ["c"], { engine: { states: new Set(["c"]), restingMs: 9 } })],
      "1",
      null,
    ],
    ["a copy where another stack is at work", [holding("0", ["a"], { runs: 1 }), empty("1")], "0", "1"],
    ["no copy where memory lacks", [holding("0", ["a"], { runs: 1 }), empty("1", { freeBytes: 4 * gib })], "0", null],
    ["no copy on a device that is as busy with something else", [holding("0", ["a"], { runs: 1 }), empty("1", { runs: 1 })], "0", null],
    ["without a holder the least busy", [empty("0", { runs: 1 }), empty("1")], "1", null],
    ["then the one with most free memory", [empty("0", { freeBytes: 9 * gib }), empty("1", { freeBytes: 20 * gib })], "1", null],
    [
      "one that has stack and structure, and is down: another",
      [holding("0", ["b"], { drained: "down" }), empty("1", { runs: 9 })],
      "1",
      null,
    ],
    ["an empty one whose host is up before one whose host has to start", [empty("0"), empty("1", { freeBytes: 20 * gib })], "1", null],
    [
      "one whose host has to start before one that holds something else",
      [empty("0", { freeBytes: 60 * gib, engines: 1 }), empty("1")],
      "1",
      null,
    ],
    ["of two that are drained the slow one", [holding("0", ["b"], { drained: "down" }), empty("1", { drained: "slow" })], "1", null],
  ])("chooses %s", (_what, devices, device, spreadTo) => {
    expect(placeRun(devices, "b", rules)).toEqual({ device, spreadTo });
  });

  it("by load does not ask which weights a device has", () => {
    const devices = [holding("0", ["a"]), holding("1", ["b"], { runs: 1 })];
    expect(placeRun(devices, "b", { ...rules, by: "load" }).device).toBe("0");
  });

  it("needs a device", () => {
    expect(() => placeRun([], "b", rules)).toThrow(RangeError);
  });
});

describe("lessBusy", () => {
  it.each<[string, readonly Look[], string | null]>([
    ["an idle device, when two share one", [holding("0", ["a", "b"], { runs: 2 }), empty("1")], "1"],
    ["nothing for a run that is alone", [holding("0", ["a"], { runs: 1 }), empty("1")], null],
    ["nothing where the difference is small", [holding("0", ["a"], { runs: 4 }), holding("1", ["b"], { runs: 2 })], null],
    ["a device with much less to do", [holding("0", ["a"], { runs: 5 }), holding("1", ["b"], { runs: 2 })], "1"],
    ["nothing where memory lacks", [holding("0", ["a"], { runs: 2 }), empty("1", { freeBytes: gib })], null],
    ["no drained device", [holding("0", ["a"], { runs: 2 }), empty("1", { drained: "slow" })], null],
  ])("answers %s", (_what, devices, expected) => {
    expect(lessBusy(devices, "0", rules.engineBytes)).toBe(expected);
  });
});

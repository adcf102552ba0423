import { expect, test } from "vitest";
import { barsOf, timelineOf } from "../../../page/src/state/figures.ts";

test("bars begin and end one bucket beside those that hold something, and the open one says so", () => {
  const buckets = [1, 5, 10, 1000].map((upToMs, index) => ({ upToMs: upToMs as number | null, count: index === 2 ? 3 : 0 }));
  expect(barsOf({ buckets: [...buckets, { upToMs: null, count: 0 }] })).toEqual({
    labels: ["5", "10", "1 s"],
    places: [0, 1, 2],
    counts: [0, 3, 0],
  });
  expect(
    barsOf({
      buckets: [
        { upToMs: 10, count: 0 },
        { upToMs: null, count: 2 },
      ],
    }).labels,
  ).toEqual(["10", ">10"]);
  expect(barsOf({ buckets }).counts.reduce((sum, count) => sum + count, 0)).toBe(3);
});

test("the timeline shows refits that were committed, with the swap as a part of the whole", () => {
  const record = (more: object) => ({
    engine: "e",
    at: "",
    kind: "refit" as const,
    full: false,
    writes: 1,
    bytesRead: 1,
    bytesWritten: 1,
    prepareMs: 8,
    commitMs: 2,
    mode: null,
    failure: null,
    ...more,
  });
  expect(timelineOf([record({ kind: "load" }), record({ failure: "REFIT_FAILED" }), record({})])).toEqual({
    places: [0],
    whole: [10],
    swap: [2],
  });
});

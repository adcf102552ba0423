import { describe, expect, test } from "vitest";
import { roundEven, roundWhole, seedOf } from "../../../sidecar/src/storage/rounding.ts";

describe("roundWhole", () => {
  test("nearest takes halves to the even neighbour", () => {
    expect([0.5, 1.5, 2.5, -0.5, -1.5, 2.4, -2.6].map(roundEven)).toEqual([0, 2, 2, 0, -2, 2, -3]);
  });

  test.each([0.3, -0.3, 0.05, 7.5])("stochastic gives %d on average, from its neighbours only", (value) => {
    const rounding = { kind: "stochastic" as const, seed: seedOf("some content") };
    const drawn = Array.from({ length: 20_000 }, (_, index) => roundWhole(value, rounding, index));
    expect(new Set(drawn)).toEqual(new Set([Math.floor(value), Math.ceil(value)]));
    expect(Math.abs(drawn.reduce((sum, one) => sum + one, 0) / drawn.length - value)).toBeLessThan(0.015);
    expect(roundWhole(value, rounding, 5)).toBe(drawn[5]);
  });

  test("other content has other chances", () => {
    expect(seedOf("a")).not.toBe(seedOf("b"));
    expect(seedOf("a")).toBe(0xe40c292c);
  });
});

import { describe, expect, it } from "vitest";
import { createAwake } from "../../../sidecar/src/wire/session/awake.ts";

function loop(cores: number) {
  let nowMs = 0;
  const looks: (() => void)[] = [];
  const awake = createAwake({ cores, nowMs: () => nowMs, next: (look) => void looks.push(look) });
  const turn = (ms: number): number => {
    nowMs += ms;
    for (const look of looks.splice(0)) look();
    return looks.length;
  };
  return { awake, turn };
}

describe("staying awake between two steps", () => {
  it("looks again and again for a moment, once however often it is asked, and then sleeps", () => {
    const { awake, turn } = loop(16);
    awake();
    awake();
    expect([turn(1), turn(4)]).toEqual([1, 1]);
    awake();
    expect([turn(5), turn(2), turn(1)]).toEqual([1, 0, 0]);
    awake();
    expect(turn(1)).toBe(1);
  });

  it("takes no processor where there are few", () => {
    const { awake, turn } = loop(4);
    awake();
    expect(turn(1)).toBe(0);
  });
});

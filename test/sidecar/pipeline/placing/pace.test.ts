import { describe, expect, it } from "vitest";
import { createPace } from "../../../../sidecar/src/pipeline/placing/pace.ts";

function make() {
  const clock = { ms: 0 };
  const pace = createPace<string>(() => clock.ms);
  const steps = (device: string, ms: number, count = 9, kind = "sdxl 1024") => {
    for (let step = 0; step < count; step += 1) pace.note(device, kind, ms);
  };
  return { clock, pace, steps };
}

describe("createPace", () => {
  it("calls a device slow whose like steps take several times as long as elsewhere, and forgets it after a minute", () => {
    const { clock, pace, steps } = make();
    steps("0", 40);
    steps("1", 200);
    expect([pace.isSlow("0"), pace.isSlow("1")]).toEqual([false, true]);
    clock.ms = 59_999;
    expect(pace.isSlow("1")).toBe(true);
    clock.ms = 60_000;
    expect(pace.isSlow("1")).toBe(false);
    steps("1", 200, 8);
    expect(pace.isSlow("1")).toBe(false);
    steps("1", 200, 1);
    expect(pace.isSlow("1")).toBe(true);
  });

  it("judges neither by a few slow steps, nor by steps of another kind, nor a device that has no other beside it", () => {
    const { pace, steps } = make();
    steps("0", 40);
    steps("1", 40, 5);
    steps("1", 900, 4);
    steps("1", 900, 9, "sdxl 2048");
    expect([pace.isSlow("0"), pace.isSlow("1")]).toEqual([false, false]);
  });
});

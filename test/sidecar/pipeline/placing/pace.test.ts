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
  it("calls a device slow whose like steps take several times as long as elsewhere for some seconds, and forgets it after a minute", () => {
    const { clock, pace, steps } = make();
    const together = () => (steps("0", 40), steps("1", 200));
    together();
    expect(pace.isSlow("1")).toBe(false);
    clock.ms = 5_000;
    together();
    expect([pace.isSlow("0"), pace.isSlow("1")]).toEqual([false, true]);
    clock.ms = 64_999;
    expect(pace.isSlow("1")).toBe(true);
    clock.ms = 65_000;
    expect(pace.isSlow("1")).toBe(false);
    together();
    clock.ms = 69_999;
    together();
    expect(pace.isSlow("1")).toBe(false);
    clock.ms = 70_000;
    together();
    expect(pace.isSlow("1")).toBe(true);
  });

  it("takes no device for slow whose first steps are, as those of a new engine", () => {
    const { clock, pace, steps } = make();
    for (const ms of [200, 40, 40, 40]) {
      steps("0", 40);
      steps("1", ms);
      clock.ms += 3_000;
    }
    // An hour apart: neither has gone on.
    for (let hour = 0; hour < 3; hour += 1) {
      steps("0", 40);
      steps("1", 200);
      clock.ms += 3_600_000;
    }
    expect([pace.isSlow("0"), pace.isSlow("1")]).toEqual([false, false]);
  });

  it("compares steps of the same time alone: a computer that is busier now makes no device slow", () => {
    const { clock, pace, steps } = make();
    for (; clock.ms < 20_000; clock.ms += 1_000) steps("0", 6);
    for (; clock.ms < 40_000; clock.ms += 1_000) steps("1", 30);
    expect(pace.isSlow("1")).toBe(false);
    for (; clock.ms < 60_000; clock.ms += 1_000) {
      steps("0", 28, 2);
      steps("1", 30, 1);
    }
    expect(pace.isSlow("1")).toBe(false);
  });

  it("judges neither by a few slow steps, nor by steps of another kind, nor a device that has no other beside it", () => {
    const { clock, pace, steps } = make();
    for (; clock.ms < 20_000; clock.ms += 1_000) {
      steps("0", 40);
      steps("1", 40, 5);
      steps("1", 900, 4);
      steps("1", 900, 9, "sdxl 2048");
    }
    expect([pace.isSlow("0"), pace.isSlow("1")]).toEqual([false, false]);
  });
});

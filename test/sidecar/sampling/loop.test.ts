// The loop against diffusers' own schedulers: vectors of golden/make.py, a model of one line.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { drawn, firstLatents, generatorOf, guided, runLoop, samplerOf, scheduleOf } from "../../../sidecar/src/sampling/index.ts";
import type { Prediction, SamplerName, ScheduleRequest } from "../../../sidecar/src/sampling/index.ts";

interface Case {
  readonly sampler: SamplerName;
  readonly prediction: Prediction;
  readonly schedule: ScheduleRequest;
  readonly eta: number;
  readonly strength: number;
  readonly times: readonly number[];
  readonly latents: readonly number[];
}
const golden = JSON.parse(readFileSync(fileURLToPath(new URL("golden/loops.json", import.meta.url)), "utf8")) as {
  readonly seeds: readonly number[];
  readonly shape: readonly number[];
  readonly cases: readonly Case[];
};
const pictureSize = golden.shape.reduce((product, dim) => product * dim, 1);
const size = pictureSize * golden.seeds.length;
const never = new AbortController().signal;

async function loop({ sampler, prediction, schedule, eta, strength }: Omit<Case, "times" | "latents">, seeds = golden.seeds) {
  const plan = scheduleOf(schedule, { sampler, prediction, time: 1000, strength });
  const generators = seeds.map(generatorOf);
  const picture = Float32Array.from({ length: pictureSize }, (_, index) => -1 + (2 * index) / (pictureSize - 1));
  const pictures = strength < 1 ? Float32Array.from({ length: size }, (_, index) => picture[index % pictureSize] ?? 0) : null;
  const told: number[] = [];
  const latents = await runLoop({
    schedule: plan,
    sampler: samplerOf(sampler, prediction, eta, plan.steps.length),
    generators,
    first: firstLatents(plan, drawn(generators, pictureSize * seeds.length), pictures),
    predict: (x, time) => Promise.resolve(x.map((value) => Math.tanh(0.8 * value + time / 1000))),
    signal: never,
    onStep: (done) => void told.push(done),
  });
  return { latents, told, times: plan.steps.map(({ time }) => time) };
}

const distance = (got: Float32Array, want: readonly number[]): number =>
  Math.sqrt(
    want.reduce((sum, value, index) => sum + (value - (got[index] ?? 0)) ** 2, 0) / want.reduce((sum, value) => sum + value * value, 0),
  );

describe("loops are diffusers' own", () => {
  it.each(
    golden.cases.map(
      (one) => [`${one.sampler} ${one.prediction} ${JSON.stringify(one.schedule)} ${one.eta} ${one.strength}`, one] as const,
    ),
  )("%s", async (_, one) => {
    const { latents, times, told } = await loop(one);
    expect(times.length).toBe(one.times.length);
    times.forEach((time, index) => expect(Math.abs(time - (one.times[index] ?? 0))).toBeLessThan(2e-3));
    expect(told).toEqual(one.times.map((_time, index) => index + 1));
    expect(distance(latents, one.latents)).toBeLessThan(1e-5);
  });

  it("has every sampler, and each prediction that it takes", () => {
    expect(new Set(golden.cases.map(({ sampler }) => sampler)).size).toBe(6);
    expect(golden.cases.length).toBeGreaterThan(60);
  });
});

it("a picture does not depend on its neighbours in the batch", async () => {
  const request = { sampler: "euler_ancestral", prediction: "epsilon", schedule: { steps: 5 }, eta: 0, strength: 1 } as const;
  const both = (await loop(request)).latents;
  const [first, second] = await Promise.all(golden.seeds.map((seed) => loop(request, [seed])));
  expect([...both]).toEqual([...(first?.latents ?? []), ...(second?.latents ?? [])]);
});

it("guidance leaves the positive answer at 1 and goes past it beyond", () => {
  const [positive, negative] = [Float32Array.of(2, 4), Float32Array.of(1, 8)];
  expect([...guided(positive, negative, 1)]).toEqual([2, 4]);
  expect([...guided(positive, negative, 3)]).toEqual([4, -4]);
});

describe("what ends a loop early", () => {
  const plan = scheduleOf({ steps: 4 }, { sampler: "euler", prediction: "epsilon", time: 1000, strength: 1 });
  const parts = {
    schedule: plan,
    sampler: samplerOf("euler", "epsilon", 0, 4),
    generators: [generatorOf(1)],
    first: new Float32Array(16),
    onStep: () => undefined,
  };

  it("a cancelled one asks the model no more", async () => {
    const cancel = new AbortController();
    let calls = 0;
    const predict = (latents: Float32Array) => {
      calls += 1;
      if (calls === 2) cancel.abort();
      return Promise.resolve(latents);
    };
    await expect(runLoop({ ...parts, predict, signal: cancel.signal })).rejects.toMatchObject({ code: "HOST_CANCELLED" });
    expect(calls).toBe(2);
  });

  it("NaN in an answer says at which step", async () => {
    const predict = (latents: Float32Array) => Promise.resolve(latents.map(() => Number.NaN));
    await expect(runLoop({ ...parts, predict, signal: never })).rejects.toMatchObject({
      code: "SAMPLE_NON_FINITE",
      message: expect.stringContaining("step 1 of 4") as string,
    });
  });
});

describe("schedules that do not fit are refused by the field", () => {
  type Options = Parameters<typeof scheduleOf>[1];
  const flow: Options = { sampler: "euler", prediction: "flow", time: 1, strength: 1 };
  const noise: Options = { sampler: "euler", prediction: "epsilon", time: 1000, strength: 1 };
  const cases: readonly (readonly [ScheduleRequest, Options, string])[] = [
    [{ sigmas: [1, 1, 0] }, noise, "schedule.sigmas.1"],
    [{ sigmas: [1, 2] }, noise, "schedule.sigmas.1"],
    [{ sigmas: [1.5, 0] }, flow, "schedule.sigmas.0"],
    [{ sigmas: [30_000, 0] }, noise, "schedule.sigmas.0"],
    [{ sigmas: [3, 1, 0], timesteps: [500] }, noise, "schedule.timesteps"],
    [{ steps: 4 }, flow, "schedule.shift"],
    [{ steps: 4, shift: 3 }, noise, "schedule.shift"],
    [{ steps: 4, shift: 3, kind: "karras" }, flow, "schedule.kind"],
    [{ steps: 4, shift: 3, spacing: "leading" }, flow, "schedule.spacing"],
    [{ steps: 4, shift: 3, zeroTerminalSnr: true }, flow, "schedule.zeroTerminalSnr"],
    [{ steps: 4, shift: 3, spacing: "trailing" }, { ...flow, sampler: "unipc" }, "schedule.spacing"],
    [{ steps: 4, kind: "karras" }, { ...noise, sampler: "ddim" }, "schedule.kind"],
    [{ steps: 4 }, { ...noise, strength: 0.1 }, "strength"],
  ];
  it.each(cases)("%j", (schedule, options, field) => {
    expect(() => scheduleOf(schedule, options)).toThrow(
      expect.objectContaining({ code: "SAMPLE_INVALID", message: expect.stringContaining(`${field}:`) as string }) as Error,
    );
  });
});

it("explicit sigmas take their own times, or those of the trained steps between which they lie", () => {
  const given = scheduleOf(
    { sigmas: [14.6146, 1, 0], timesteps: [999, 400] },
    { sampler: "euler", prediction: "epsilon", time: 1000, strength: 1 },
  );
  expect(given.steps.map(({ time }) => time)).toEqual([999, 400]);
  const found = scheduleOf({ sigmas: [14.6146, 1, 0] }, { sampler: "euler", prediction: "epsilon", time: 1000, strength: 1 });
  expect(found.steps[0]?.time).toBeCloseTo(999, 2);
  const flow = scheduleOf({ sigmas: [1, 0.5, 0] }, { sampler: "euler", prediction: "flow", time: 1, strength: 1 });
  expect(flow.steps.map(({ time }) => time)).toEqual([1, 0.5]);
});

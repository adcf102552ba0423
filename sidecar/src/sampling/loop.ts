// The loop: predict, step, until the schedule ends. In: a schedule, a sampler, the first latents, a model to ask. Out: the last latents. It knows no engine.

import { Failure } from "../failure/index.ts";
import type { Generator } from "./generator.ts";
import type { Sampler } from "./samplers.ts";
import type { LoopStep, Mix, Schedule } from "./types.ts";

/** A step, the latents before it and the model's answer. */
export interface Made {
  readonly step: LoopStep;
  readonly latents: Float32Array;
  readonly answer: Float32Array;
}

export interface LoopParts {
  readonly schedule: Schedule;
  readonly sampler: Sampler;
  /** One for each picture of the batch, in order. */
  readonly generators: readonly Generator[];
  readonly first: Float32Array;
  /** The model's answer, guided; throws what a step throws. */
  readonly predict: (latents: Float32Array, time: number) => Promise<Float32Array>;
  readonly signal: AbortSignal;
  /** After each step, with what it was made from; none of it changes afterwards. */
  readonly onStep: (done: number, total: number, made: Made) => void;
}

/** One draw for the whole batch: each picture's part comes from its own generator, so it does not depend on its neighbours. */
export function drawn(generators: readonly Generator[], values: number): Float32Array {
  const size = values / generators.length;
  const out = new Float32Array(values);
  generators.forEach((generator, index) => out.set(generator.normal(size), index * size));
  return out;
}

/** Noise at the schedule's first level, over a picture where there is one. */
export function firstLatents({ steps, startScale }: Schedule, noise: Float32Array, picture: Float32Array | null): Float32Array {
  const { signal, noise: share } = (steps[0] as LoopStep).from satisfies Mix;
  return noise.map((value, index) => (picture === null ? value * startScale : signal * (picture[index] ?? 0) + share * value));
}

/** Guidance without a classifier (Ho & Salimans 2022, eq. 6), in place of the first. */
export function guided(positive: Float32Array, negative: Float32Array, scale: number): Float32Array {
  return positive.map((value, index) => {
    const against = negative[index] ?? 0;
    return against + scale * (value - against);
  });
}

export function isFinite32(values: Float32Array): boolean {
  for (const value of values) if (!Number.isFinite(value)) return false;
  return true;
}

/** Throws HOST_CANCELLED between two steps when `signal` fires, SAMPLE_NON_FINITE, and what `predict` throws. */
export async function runLoop({ schedule, sampler, generators, first, predict, signal, onStep }: LoopParts): Promise<Float32Array> {
  let latents = first;
  for (const [index, step] of schedule.steps.entries()) {
    if (signal.aborted) throw new Failure("HOST_CANCELLED", "the loop was cancelled between two steps", { step: index });
    const answer = await predict(latents, step.time);
    const made = { step, latents, answer };
    latents = sampler.next(latents, answer, step, () => drawn(generators, first.length));
    if (!isFinite32(latents))
      throw new Failure("SAMPLE_NON_FINITE", `step ${index + 1} of ${schedule.steps.length} left values that are no finite numbers`, {
        step: index + 1,
      });
    onStep(index + 1, schedule.steps.length, made);
  }
  return latents;
}

// From a request's schedule to times and noise levels. A named schedule gives what diffusers' own scheduler of that sampler gives for the same words:
// EulerDiscrete and EulerAncestralDiscrete, DDIM, DPMSolverMultistep, UniPCMultistep, FlowMatchEulerDiscrete (diffusers 0.42).

import { Failure } from "../failure/index.ts";
import { trainedNoise, trainedSteps, type TrainedNoise } from "./trained-noise.ts";
import type { LoopStep, Mix, Prediction, SamplerName, Schedule, ScheduleRequest } from "./types.ts";

interface Level {
  readonly sigma: number;
  /** In trained steps: 0 to 999, and for a flow sigma times 1,000. */
  readonly step: number;
}

type Named = Exclude<ScheduleRequest, { readonly sigmas: readonly number[] }>;
type Spacing = NonNullable<Named["spacing"]>;

const refuse = (message: string): Failure => new Failure("SAMPLE_INVALID", message, {});

/** Karras et al. 2022, eq. 5. */
const rho = 7;
/** A flow that begins in pure noise has a signal of zero, whose logarithm the solvers cannot take; diffusers' own step aside. */
const besideNoise = 1e-6;

/** diffusers cuts these times to whole numbers, and logarithms in f32 leave the last trained step just below 999. */
const belowWhole = 1e-4;

const solvers: ReadonlySet<SamplerName> = new Set(["dpmpp_2m", "unipc"]);

/** As numpy rounds: halves to the even neighbour. */
function rounded(value: number): number {
  const low = Math.floor(value);
  const over = value - low;
  return over < 0.5 || (over === 0.5 && low % 2 === 0) ? low : low + 1;
}

const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
/** As numpy.linspace computes it, to the last bit: times of the solvers are cut to whole numbers. */
function evenly(from: number, to: number, count: number): number[] {
  const stride = (to - from) / (count - 1);
  return range(count).map((index) => (index > 0 && index === count - 1 ? to : count === 1 ? from : index * stride + from));
}

/** Signal and noise of a level: a flow mixes linearly, a diffusion keeps the variance. */
function mixOf(sigma: number, prediction: Prediction): Mix {
  if (prediction === "flow") return { signal: 1 - sigma, noise: sigma };
  const signal = 1 / Math.sqrt(1 + sigma * sigma);
  return { signal, noise: sigma * signal };
}

/** Trained steps of a named schedule, descending. Solvers of several steps leave out the last of one more step. */
function spaced(sampler: SamplerName, spacing: Spacing, count: number): number[] {
  const parts = solvers.has(sampler) ? count + 1 : count;
  if (spacing === "trailing") return range(count).map((index) => rounded(trainedSteps - (index * trainedSteps) / count) - 1);
  if (spacing === "leading") {
    const ratio = Math.floor(trainedSteps / parts);
    return range(count).map((index) => (parts - 1 - index) * ratio + 1);
  }
  const even = evenly(0, trainedSteps - 1, parts)
    .toReversed()
    .slice(0, count);
  return sampler === "euler" || sampler === "euler_ancestral" ? even : even.map(rounded);
}

/** Sigmas between two ends by Karras' rule, or evenly in their logarithm. */
function between(kind: "karras" | "exponential", most: number, least: number, count: number): number[] {
  if (kind === "exponential") return evenly(Math.log(most), Math.log(least), count).map(Math.exp);
  return evenly(most ** (1 / rho), least ** (1 / rho), count).map((value) => value ** rho);
}

function diffusionLevels(sampler: SamplerName, named: Named, trained: TrainedNoise): Level[] {
  const { steps: count, kind = "normal", spacing = "leading" } = named;
  if (named.shift !== undefined) throw refuse("schedule.shift: expected none; this model is no flow, and its noise levels are not shifted");
  const even = spaced(sampler, spacing, count);
  if (kind === "normal") return even.map((step) => ({ step, sigma: trained.at(step) }));
  if (sampler === "ddim")
    throw refuse(`schedule.kind: expected "normal" with the sampler ddim, which steps from one trained step to another`);
  const solver = solvers.has(sampler);
  const ends = solver ? [trainedSteps - 1, 0] : [even[0] ?? 0, even.at(-1) ?? 0];
  const sigmas = between(kind, trained.at(ends[0] ?? 0), trained.at(ends[1] ?? 0), count);
  return sigmas.map((sigma) => {
    const step = trained.stepOf(sigma);
    return { sigma, step: !solver ? step : kind === "karras" ? rounded(step) : Math.max(0, Math.floor(step - belowWhole)) };
  });
}

function flowLevels(sampler: SamplerName, named: Named): Level[] {
  const { steps: count, kind = "normal", spacing, shift, zeroTerminalSnr } = named;
  if (shift === undefined)
    throw refuse("schedule.shift: expected a number for a flow model (1: not shifted; docs/use/scripts.md has the usual ones)");
  if (kind !== "normal") throw refuse(`schedule.kind: expected "normal" for a flow model, got "${kind}"`);
  if (zeroTerminalSnr !== undefined) throw refuse("schedule.zeroTerminalSnr: expected none for a flow model");
  const shifted = (sigma: number): number => (shift * sigma) / (1 + (shift - 1) * sigma);
  if (solvers.has(sampler)) {
    if (spacing !== undefined) throw refuse(`schedule.spacing: expected none for a flow model with the sampler ${sampler}`);
    const even =
      sampler === "unipc"
        ? evenly(1, 1 / trainedSteps, count + 1).slice(0, count)
        : evenly(1, 1 / trainedSteps, count + 1)
            .map((signal) => 1 - signal)
            .toReversed()
            .slice(0, count);
    return even.map(shifted).map((sigma) => {
      const aside = sampler === "unipc" && Math.abs(sigma - 1) < besideNoise ? sigma - besideNoise : sigma;
      return { sigma: aside, step: Math.floor(aside * trainedSteps) };
    });
  }
  if (spacing === "leading") throw refuse('schedule.spacing: expected "trailing" or "linspace" for a flow model');
  // diffusers shifts the lower end twice when it is asked for a number of steps alone.
  const even = spacing === "linspace" ? evenly(1, shifted(1 / trainedSteps), count) : evenly(1, 1 / count, count);
  return even.map(shifted).map((sigma) => ({ sigma, step: sigma * trainedSteps }));
}

/** Sigmas as the client gave them; the last is where the loop ends. */
function givenLevels(
  { sigmas, timesteps }: Exclude<ScheduleRequest, Named>,
  prediction: Prediction,
  trained: TrainedNoise,
): { readonly levels: Level[]; readonly end: number } {
  const most = prediction === "flow" ? 1 : 20_000;
  sigmas.forEach((sigma, index) => {
    if (sigma > most) throw refuse(`schedule.sigmas.${index}: expected at most ${most}, got ${sigma}`);
    if (index > 0 && sigma >= (sigmas[index - 1] ?? 0))
      throw refuse(`schedule.sigmas.${index}: expected less than the one before, got ${sigma}`);
  });
  if (timesteps !== undefined && timesteps.length !== sigmas.length - 1)
    throw refuse(`schedule.timesteps: expected one for every step (${sigmas.length - 1}), got ${timesteps.length}`);
  const levels = sigmas.slice(0, -1).map((sigma, index) => ({
    sigma,
    step: timesteps?.[index] ?? (prediction === "flow" ? sigma * trainedSteps : trained.stepOf(sigma)),
  }));
  return { levels, end: sigmas.at(-1) ?? 0 };
}

export interface ScheduleOptions {
  readonly sampler: SamplerName;
  readonly prediction: Prediction;
  /** What the model's time input is where its noise is strongest: 1,000, or 1 for models that take sigma itself. */
  readonly time: number;
  /** The share of the steps that is taken, from the end: less than 1 for a picture that is changed and not made. */
  readonly strength: number;
}

/** Throws SAMPLE_INVALID, with the field that does not fit. */
export function scheduleOf(request: ScheduleRequest, { sampler, prediction, time, strength }: ScheduleOptions): Schedule {
  const named = "sigmas" in request ? null : request;
  const trained = trainedNoise(named?.zeroTerminalSnr === true);
  const { levels, end } =
    "sigmas" in request
      ? givenLevels(request, prediction, trained)
      : { levels: prediction === "flow" ? flowLevels(sampler, request) : diffusionLevels(sampler, request, trained), end: 0 };
  const taken = Math.min(levels.length, Math.floor(levels.length * strength));
  if (taken === 0) throw refuse(`strength: expected enough for one step of ${levels.length}, got ${strength}`);
  const steps = levels.map(({ sigma, step }, index): LoopStep => {
    const next = levels[index + 1]?.sigma ?? end;
    // DDIM goes by trained steps: to the one a whole stride before, and to the first of all at its end.
    const to = sampler === "ddim" && named !== null ? trained.at(Math.max(0, step - Math.floor(trainedSteps / levels.length))) : next;
    return { time: (step * time) / trainedSteps, from: mixOf(sigma, prediction), to: mixOf(to, prediction) };
  });
  const first = levels[0]?.sigma ?? 0;
  // diffusers' Euler begins in noise of the first sigma itself where its steps reach the last trained one.
  const isScaled =
    prediction !== "flow" && named !== null && named.spacing !== undefined && named.spacing !== "leading" && sampler.startsWith("euler");
  return { steps: steps.slice(levels.length - taken), startScale: isScaled ? mixOf(first, prediction).noise : 1 };
}

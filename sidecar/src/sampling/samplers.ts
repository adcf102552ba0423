// From one model answer to the next latent. In: latents and predictions as numbers, levels of the schedule. Out: latents. Everything is a sum of latents with
// weights that depend on the schedule alone. Latents are those of a variance-preserving diffusion, or of a flow; diffusers is the oracle of the tests.

import type { LoopStep, Mix, Prediction, SamplerName } from "./types.ts";

/** Noise in the latents' size, from the generators of the pictures. */
export type Draw = () => Float32Array;

export interface Sampler {
  /** The next latents; `answer` is the model's at the step's time. */
  readonly next: (latents: Float32Array, answer: Float32Array, step: LoopStep, draw: Draw) => Float32Array;
}

type Term = readonly [weight: number, values: Float32Array];

function sum(terms: readonly Term[]): Float32Array {
  const out = new Float32Array(terms[0]?.[1].length ?? 0);
  for (let index = 0; index < out.length; index += 1) {
    let total = 0;
    for (const [weight, values] of terms) total += weight * (values[index] ?? 0);
    out[index] = total;
  }
  return out;
}

/** The picture and the noise that a latent is made of, by the model's answer. */
function parts(
  latents: Float32Array,
  answer: Float32Array,
  { signal, noise }: Mix,
  prediction: Prediction,
): readonly [Float32Array, Float32Array] {
  if (prediction === "epsilon")
    return [
      sum([
        [1 / signal, latents],
        [-noise / signal, answer],
      ]),
      answer,
    ];
  if (prediction === "v")
    return [
      sum([
        [signal, latents],
        [-noise, answer],
      ]),
      sum([
        [noise, latents],
        [signal, answer],
      ]),
    ];
  return [
    sum([
      [1, latents],
      [-noise, answer],
    ]),
    sum([
      [1, latents],
      [signal, answer],
    ]),
  ];
}

/** The finished picture by the model's answer at a step, as every sampler here takes it. */
export const pictureIn = (latents: Float32Array, answer: Float32Array, { from }: LoopStep, prediction: Prediction): Float32Array =>
  parts(latents, answer, from, prediction)[0];

const ratio = ({ signal, noise }: Mix): number => noise / signal;
/** Half the logarithm of the signal-to-noise ratio. */
const lambda = ({ signal, noise }: Mix): number => Math.log(signal) - Math.log(noise);

/** `eta` of DDIM: the share of fresh noise (Song et al. 2021, eq. 16). */
export function samplerOf(name: SamplerName, prediction: Prediction, eta: number, total: number): Sampler {
  if (name === "euler" || name === "flow_match_euler")
    return {
      next(latents, answer, { from, to }) {
        const [clean, noise] = parts(latents, answer, from, prediction);
        return sum([
          [to.signal, clean],
          [to.noise, noise],
        ]);
      },
    };

  if (name === "euler_ancestral")
    return {
      next(latents, answer, { from, to }, draw) {
        const [clean, noise] = parts(latents, answer, from, prediction);
        const [before, after] = [ratio(from), ratio(to)];
        const up = Math.sqrt((after * after * (before * before - after * after)) / (before * before));
        const down = Math.sqrt(after * after - up * up);
        return sum([
          [to.signal, clean],
          [to.signal * down, noise],
          [to.signal * up, draw()],
        ]);
      },
    };

  if (name === "ddim")
    return {
      next(latents, answer, { from, to }, draw) {
        const [clean, noise] = parts(latents, answer, from, prediction);
        const fresh = eta * (to.noise / from.noise) * Math.sqrt(Math.max(0, 1 - (from.signal / to.signal) ** 2));
        const kept = Math.sqrt(Math.max(0, to.noise * to.noise - fresh * fresh));
        return sum([[to.signal, clean], [kept, noise], ...(eta > 0 ? [[fresh, draw()] as const] : [])]);
      },
    };

  if (name === "dpmpp_2m") {
    let earlier: { readonly clean: Float32Array; readonly from: Mix } | null = null;
    let done = 0;
    return {
      next(latents, answer, { from, to }) {
        const [clean] = parts(latents, answer, from, prediction);
        done += 1;
        const length = lambda(to) - lambda(from);
        const gain = to.signal * Math.expm1(-length);
        const terms: Term[] = [[to.noise / from.noise, latents]];
        // Lu et al. 2022, algorithm 2 of DPM-Solver++, its last step of the first order.
        if (earlier === null || done === total) terms.push([-gain, clean]);
        else {
          const weight = length / (2 * (lambda(from) - lambda(earlier.from)));
          terms.push([-gain * (1 + weight), clean], [gain * weight, earlier.clean]);
        }
        earlier = { clean, from };
        return sum(terms);
      },
    };
  }
  return unipc(prediction, total);
}

interface Past {
  readonly clean: Float32Array;
  readonly from: Mix;
}

/** Zhao et al. 2023, UniPC of the second order with B(h) = exp(h) - 1: each answer first corrects the step before it, then predicts the next. */
function unipc(prediction: Prediction, total: number): Sampler {
  /** Newest last. */
  const past: Past[] = [];
  let before: Float32Array | null = null;
  let order = 0;
  let done = 0;
  const bent = ({ signal, noise }: Mix): Mix => (signal > 0 ? { signal, noise } : { signal: besideNothing, noise: 1 - besideNothing });

  function corrected(latents: Float32Array, clean: Float32Array, here: Mix): Float32Array {
    const last = past.at(-1);
    if (last === undefined || before === null) return latents;
    const length = lambda(here) - lambda(last.from);
    const base = Math.expm1(-length);
    const second = base / -length - 1;
    const first = second / base;
    const weights: Term[] = [[here.noise / last.from.noise, before]];
    let pull = -here.signal * base;
    const older = past.at(-2);
    if (order === 1 || older === undefined) {
      // Simplified, as in its authors' code.
      const half = here.signal * base * 0.5;
      weights.push([-half, clean]);
      pull += half;
    } else {
      const stride = (lambda(older.from) - lambda(last.from)) / length;
      const target = ((second / -length - 0.5) * 2) / base;
      const onOlder = (first - target) / (1 - stride);
      const onNew = first - onOlder;
      const [a, b] = [(here.signal * base * onOlder) / stride, here.signal * base * onNew];
      weights.push([-a, older.clean], [-b, clean]);
      pull += a + b;
    }
    return sum([...weights, [pull, last.clean]]);
  }

  return {
    next(given, answer, step) {
      const from = bent(step.from);
      const { to } = step;
      const [clean] = parts(given, answer, step.from, prediction);
      const latents = corrected(given, clean, from);
      past.push({ clean, from });
      if (past.length > 2) past.shift();
      order = Math.min(2, total - done, order + 1);
      done += 1;
      before = latents;
      const length = lambda(to) - lambda(from);
      const base = to.signal * Math.expm1(-length);
      const older = past.length === 2 ? past[0] : undefined;
      if (order === 1 || older === undefined)
        return sum([
          [to.noise / from.noise, latents],
          [-base, clean],
        ]);
      const half = (base * 0.5) / ((lambda(older.from) - lambda(from)) / length);
      return sum([
        [to.noise / from.noise, latents],
        [-base + half, clean],
        [-half, older.clean],
      ]);
    },
  };
}

const besideNothing = 1e-6;

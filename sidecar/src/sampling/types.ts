// Words of the denoising loop.

import type { WireParams } from "@refit-sidecar/protocol";

type Asked = WireParams<"engine.sample">;
export type SamplerName = Asked["sampler"];
export type ScheduleRequest = Asked["schedule"];
/** What the model's answer is: the noise, the velocity of a diffusion (Salimans & Ho 2022), or that of a flow (noise minus picture). */
export type Prediction = NonNullable<Asked["prediction"]>;

/** Shares of signal and noise in a latent: `signal * picture + noise * normal`. */
export interface Mix {
  readonly signal: number;
  readonly noise: number;
}

/** One model call and the change that follows. */
export interface LoopStep {
  /** As the model's input takes it. */
  readonly time: number;
  readonly from: Mix;
  readonly to: Mix;
}

export interface Schedule {
  readonly steps: readonly LoopStep[];
  /** By what the first noise is multiplied when no latent is given. */
  readonly startScale: number;
}

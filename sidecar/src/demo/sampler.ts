import { elements } from "../terms/index.ts";
import type { DemoDescription } from "./assets.ts";
import { noiseOf } from "./noise.ts";

/** One denoiser call: latents [batch, c, h, w] at a timestep to the predicted velocity, same shape. */
export type Denoise = (latents: Float32Array, timestep: number) => Promise<Float32Array>;

/** Deterministic DDIM (Song et al. 2021, eq. 12 with η = 0) on velocity predictions (Salimans & Ho 2022), no guidance. Returns the final latents. */
export async function sample(description: DemoDescription, seeds: readonly number[], denoise: Denoise): Promise<Float32Array> {
  const size = elements(description.latent.shape);
  const [low, high] = description.sampler.clip;
  const latents = new Float32Array(seeds.length * size);
  seeds.forEach((seed, index) => latents.set(noiseOf(seed, size), index * size));
  for (const { timestep, alpha, alphaNext } of description.sampler.steps) {
    const velocity = await denoise(latents, timestep);
    const [signal, noise] = [Math.sqrt(alpha), Math.sqrt(1 - alpha)];
    const [signalNext, noiseNext] = [Math.sqrt(alphaNext), Math.sqrt(1 - alphaNext)];
    for (let i = 0; i < latents.length; i += 1) {
      const x = latents[i] ?? 0;
      const clean = Math.min(high, Math.max(low, signal * x - noise * (velocity[i] ?? 0)));
      latents[i] = signalNext * clean + noiseNext * ((x - signal * clean) / noise);
    }
  }
  return latents;
}

import type { FrameTensor } from "@refit-sidecar/protocol";
import type { DemoAssets } from "./assets.ts";
import { asBytes } from "../terms/index.ts";

/** Inputs of a denoiser call for `count` pictures: latents [count, c, h, w] at a timestep, and the condition of the one prompt that there is. */
export function stepInputs(
  { description, conditioning }: DemoAssets,
  count: number,
): (latents: Float32Array, timestep: number) => FrameTensor[] {
  const [channels, rows, columns] = description.latent.shape;
  const [, tokens, width] = description.conditioning.shape;
  const context = new Float32Array(count * conditioning.length);
  for (let index = 0; index < count; index += 1) context.set(conditioning, index * conditioning.length);
  return (latents, timestep) => [
    { name: "sample", dtype: "f32", shape: [count, channels, rows, columns], data: asBytes(latents) },
    { name: "timestep", dtype: "f32", shape: [count], data: asBytes(new Float32Array(count).fill(timestep)) },
    { name: "encoder_hidden_states", dtype: "f32", shape: [count, tokens, width], data: asBytes(context) },
  ];
}

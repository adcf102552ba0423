// A coarse picture from an engine without a text encoder and a VAE: a few deterministic steps on an empty prompt, and latents shown as colours.

import { PNG } from "pngjs";
import type { FrameTensor } from "@refit-sidecar/protocol";
import { runLoop, samplerOf, scheduleOf, trainedNoise, trainedSteps, type Schedule } from "../../sampling/index.ts";
import { bytesAs, valuesOf } from "../float-tensors.ts";
import type { OpenLease } from "../open-lease.ts";
import { probeInputs } from "../warm/probe.ts";

/** Red, green and blue of one latent channel each, -1 to 1: least squares of decoded pictures, as ComfyUI and diffusers publish them for their previews. */
interface LatentLook {
  readonly channels: readonly (readonly [red: number, green: number, blue: number])[];
  readonly side: number;
}

export const latentLooks: Readonly<Record<string, LatentLook>> = {
  sd15: {
    channels: [
      [0.3512, 0.2297, 0.3227],
      [0.325, 0.4974, 0.235],
      [-0.2829, 0.1762, 0.2721],
      [-0.212, -0.2616, -0.7177],
    ],
    side: 32,
  },
  sdxl: {
    channels: [
      [0.3651, 0.4232, 0.4341],
      [-0.2533, -0.0042, 0.1068],
      [0.1076, 0.1111, -0.0362],
      [-0.3165, -0.2492, -0.2188],
    ],
    side: 64,
  },
};

const enlarged = 8;

interface Drawing {
  readonly lease: OpenLease;
  readonly look: LatentLook;
  /** Standard normal numbers of the seed. */
  readonly noise: (count: number) => Float32Array;
  readonly steps: number;
  readonly signal: AbortSignal;
}

/** The tensor with these values in its own type. */
const filled = async (tensor: FrameTensor, values: Float32Array): Promise<FrameTensor> => ({
  ...tensor,
  data: await bytesAs(values, tensor.dtype),
});

/** Steps of the schedule: evenly from the last trained one to a clean picture. */
function evenSchedule(steps: number): Schedule {
  const { at } = trainedNoise(false);
  const timesteps = Array.from({ length: steps }, (_, index) => Math.round(((trainedSteps - 1) * (steps - index)) / steps));
  const request = { sigmas: [...timesteps.map(at), 0], timesteps };
  return scheduleOf(request, { sampler: "ddim", prediction: "epsilon", time: trainedSteps, strength: 1 });
}

/** Deterministic DDIM on noise predictions, batch 1. Throws what a step throws. */
export async function sampleLatents({
  lease,
  look,
  noise,
  steps,
  signal,
}: Drawing): Promise<{ png: Buffer; width: number; height: number; stepsMs: number }> {
  const { side, channels } = look;
  const { table, spec } = lease.origin;
  // An empty prompt is zeros, which stay; the sample and its timestep are put in at every step.
  const empty = probeInputs(table.inputs, spec.precision, { sample: [1, channels.length, side, side] });
  let stepsMs = 0;
  const latents = await runLoop({
    schedule: evenSchedule(steps),
    sampler: samplerOf("ddim", "epsilon", 0, steps),
    generators: [],
    first: noise(channels.length * side * side),
    async predict(values, time) {
      const given = empty.map(async (tensor) => {
        if (tensor.name === "sample") return filled(tensor, values);
        return tensor.name === "timestep" ? filled(tensor, Float32Array.of(time)) : tensor;
      });
      const reply = await lease.step(await Promise.all(given), signal);
      stepsMs += reply.ms;
      return valuesOf(reply.tensors[0]);
    },
    signal,
    onStep: () => undefined,
  });
  return { png: coloured(latents, look), width: side * enlarged, height: side * enlarged, stepsMs };
}

/** Latents as colours, a block of the picture for each. */
export function coloured(latents: Float32Array, { side, channels }: LatentLook): Buffer {
  const png = new PNG({ width: side * enlarged, height: side * enlarged });
  for (let y = 0; y < png.height; y += 1) {
    for (let x = 0; x < png.width; x += 1) {
      const cell = Math.floor(y / enlarged) * side + Math.floor(x / enlarged);
      for (let colour = 0; colour < 3; colour += 1) {
        const value = channels.reduce(
          (sum, weights, channel) => sum + (weights[colour] ?? 0) * (latents[channel * side * side + cell] ?? 0),
          0,
        );
        png.data[(y * png.width + x) * 4 + colour] = Math.min(255, Math.max(0, Math.round(127.5 + 127.5 * value)));
      }
      png.data[(y * png.width + x) * 4 + 3] = 255;
    }
  }
  return PNG.sync.write(png);
}

// A coarse picture from an engine without a text encoder and a VAE: a few deterministic steps on an empty prompt, and latents shown as colours.

import { PNG } from "pngjs";
import type { Autoencoder, FrameTensor } from "@refit-sidecar/protocol";
import { channelsOf, coloursOf, runLoop, samplerOf, scheduleOf, trainedNoise, trainedSteps } from "../../sampling/index.ts";
import type { Schedule } from "../../sampling/index.ts";
import { bytesAs, valuesOf } from "../float-tensors.ts";
import type { OpenLease } from "../open-lease.ts";
import { probeInputs } from "../warm/probe.ts";

/** How a family's latents are drawn: whose latents they are, and how many of them a side. */
interface LatentLook {
  readonly autoencoder: Autoencoder;
  readonly side: number;
}

export const latentLooks: Readonly<Record<string, LatentLook>> = {
  sd15: { autoencoder: "sd", side: 32 },
  sdxl: { autoencoder: "sdxl", side: 64 },
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
  const { side, autoencoder } = look;
  const channels = channelsOf(autoencoder);
  const { table, spec } = lease.origin;
  // An empty prompt is zeros, which stay; the sample and its timestep are put in at every step.
  const empty = probeInputs(table.inputs, spec.precision, { sample: [1, channels, side, side] });
  let stepsMs = 0;
  const latents = await runLoop({
    schedule: evenSchedule(steps),
    sampler: samplerOf("ddim", "epsilon", 0, steps),
    generators: [],
    first: noise(channels * side * side),
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
export function coloured(latents: Float32Array, { side, autoencoder }: LatentLook): Buffer {
  const colours = coloursOf(latents, 1, autoencoder);
  const png = new PNG({ width: side * enlarged, height: side * enlarged });
  for (let y = 0; y < png.height; y += 1) {
    for (let x = 0; x < png.width; x += 1) {
      const cell = (Math.floor(y / enlarged) * side + Math.floor(x / enlarged)) * 3;
      const at = (y * png.width + x) * 4;
      png.data.set(colours.subarray(cell, cell + 3), at);
      png.data[at + 3] = 255;
    }
  }
  return PNG.sync.write(png);
}

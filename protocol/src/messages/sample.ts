// sample: a whole denoising loop in one call. The loop runs in the sidecar, its model calls on an engine.

import { z } from "zod";
import { adapterReport } from "./engine.ts";
import { method, notificationOf } from "./method.ts";
import { count, hostKind, id, milliseconds, mode, precision, segmentRange, stack, tensors } from "./values.ts";

/** Only its lowest 32 bits count, as in PyTorch; a whole number that every JSON reader keeps. */
const seed = z.int().min(0).max(9_007_199_254_740_991);
/** A loop of 500 steps is 25 times a usual one; the cap bounds what one call can hold an engine for. */
const mostSteps = 500;
const mostPictures = 64;

const schedule = z.union([
  z.strictObject({
    /** Noise over signal of each step, falling, and where the loop ends (0: no noise is left). For a flow: its time, 1 to 0. */
    sigmas: z
      .array(z.number().nonnegative())
      .min(2)
      .max(mostSteps + 1),
    /** The model's time of each step, in trained steps (0 to 1,000). Absent: that of its sigma. */
    timesteps: z.array(z.number().min(0).max(1000)).max(mostSteps).exactOptional(),
  }),
  z.strictObject({
    steps: z.int().min(1).max(mostSteps),
    kind: z.enum(["normal", "karras", "exponential"]).exactOptional(),
    /** Which trained steps are taken. Absent: `leading` for a diffusion, `trailing` for a flow. */
    spacing: z.enum(["leading", "trailing", "linspace"]).exactOptional(),
    /** Of a flow: s in s·t / (1 + (s - 1)·t). */
    shift: z.number().positive().max(1000).exactOptional(),
    /** The model was trained with a schedule that ends in noise alone. */
    zeroTerminalSnr: z.boolean().exactOptional(),
  }),
]);

export const sampleMethods = {
  "engine.sample": method({
    summary:
      "Makes pictures in one call: the whole denoising loop, from noise of the seeds to latents, on an engine that has this checkpoint and stack. Progress is notified; can be cancelled.",
    role: "control",
    tensors: "both",
    params: z.strictObject({
      checkpoint: id,
      stack,
      precision: precision.exactOptional(),
      host: hostKind.exactOptional(),
      mode: mode.exactOptional(),
      adapterLoss: z.number().min(0).max(1).exactOptional(),
      sampler: z.enum(["euler", "euler_ancestral", "dpmpp_2m", "unipc", "flow_match_euler", "ddim"]),
      schedule,
      /** What the model predicts. Absent: as its family does. */
      prediction: z.enum(["flow", "epsilon", "v"]).exactOptional(),
      /** How far from the negative conditioning; 1 asks the model for the positive one alone. */
      cfg: z.number().min(0).max(100).exactOptional(),
      /** ddim: the share of fresh noise. */
      eta: z.number().min(0).max(1).exactOptional(),
      /** One for each picture. */
      seeds: z.array(seed).min(1).max(mostPictures),
      /** Height and width of the latents, before them frames for a video. Absent: those of the tensor `latent` or `noise`. */
      size: z.array(z.int().positive().max(65_536)).min(1).max(3).exactOptional(),
      /** How much of the schedule is run over the tensor `latent`. Absent: all of it. */
      strength: z.number().positive().max(1).exactOptional(),
      /** Whose loop comes next where several wait. Absent: normal. */
      priority: z.enum(["high", "low", "normal"]).exactOptional(),
      /** From the call's arrival. A loop that is not done by then is ended (SAMPLE_DEADLINE); one whose time is near comes before others. */
      deadlineMs: z.int().positive().max(86_400_000).exactOptional(),
      /** Who asks, where one session or token speaks for many: engines are shared fairly by it. */
      client: z.string().min(1).max(64).exactOptional(),
      /** Tensor name to conditioning key, for tensors that were put before. */
      use: z.record(z.string().max(512), z.string().min(1).max(128)).exactOptional(),
      /**
       * What the model takes for the finished pictures after each step, or each `every`-th: latents in f32, or `rgb` in u8 (pictures, sizes, 3), by the family's known
       * factors. They come as `preview`.
       */
      previews: z.strictObject({ kind: z.enum(["latents", "rgb"]), every: z.int().min(1).max(mostSteps).exactOptional() }).exactOptional(),
      /** Where the client wants the latents, as with `engine.step`. */
      reply: segmentRange.exactOptional(),
      /** `latent`, `noise`, `concat`, and `positive.NAME` and `negative.NAME` for every input of the family that is not the loop's own. */
      tensors: tensors.exactOptional(),
    }),
    result: z.object({
      engine: id,
      host: z.string(),
      precision: z.string(),
      seeds: z.array(seed),
      steps: count,
      /** Model calls; two a step where positive and negative conditioning could not share one. */
      calls: count,
      /** Changes of the engine's weights that this loop waited for. */
      refits: z.object({ count, writes: count, bytes: count }),
      /** `queue`: behind other loops, and between its own steps; `prepare`: adapters and weights; `run`: in the engine. */
      ms: z.object({ total: milliseconds, queue: milliseconds, prepare: milliseconds, run: milliseconds }),
      adapters: z.array(adapterReport),
      /** `latents`, f32. */
      tensors: tensors.exactOptional(),
    }),
  }),
} as const;

export const sampleNotifications = {
  preview: notificationOf(
    "A loop that asked for previews has one. A client that reads slowly gets the newest: older ones are left out. None comes after the call's answer.",
    z.object({
      request: z.union([z.int(), z.string()]),
      /** Steps. */
      done: count,
      total: count,
      /** `preview`. */
      tensors,
    }),
  ),
} as const;

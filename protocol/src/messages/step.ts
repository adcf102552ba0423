// step: one denoiser call. Conditioning is uploaded once per run under a key of the client's choice (a hash of its content), latents travel with every step.

import { z } from "zod";
import { method } from "./method.ts";
import { count, id, milliseconds, segmentRange, tensors } from "./values.ts";

/** Keys of conditioning belong to one session: nobody else can replace what a key stands for. */
const key = z.string().min(1).max(128);

export const stepMethods = {
  "conditioning.put": method({
    summary: "Keeps tensors for later steps of this session; each tensor's name is its key. The least recently used go first.",
    role: "control",
    tensors: "in",
    params: z.strictObject({ tensors: tensors.min(1) }),
    result: z.object({ bytes: count }),
  }),
  "conditioning.drop": method({
    summary: "Forgets keys; unknown ones are ignored.",
    role: "control",
    tensors: "none",
    params: z.strictObject({ keys: z.array(key).max(1000) }),
    result: z.object({ bytes: count }),
  }),
  "engine.step": method({
    summary:
      "Runs the engine once under a lease. Inputs come with the call or by key; outputs come back in the frame, or in `reply` where they fit.",
    role: "control",
    tensors: "both",
    params: z.strictObject({
      lease: id,
      /** Input name to conditioning key. */
      use: z.record(z.string().max(512), key).exactOptional(),
      /** Where the client wants the outputs. It keeps that range free until the call is answered, cancelled or not. */
      reply: segmentRange
        .extend({
          /** Of a device segment that has a bell: the host writes this number there as soon as the output lies in the range, a moment before the call is answered. */
          bell: count.exactOptional(),
        })
        .exactOptional(),
      tensors: tensors.exactOptional(),
    }),
    result: z.object({
      /** `queue`: waited for its turn; `run`: in the engine. */
      ms: z.object({ queue: milliseconds, run: milliseconds }),
      tensors: tensors.exactOptional(),
    }),
  }),
} as const;

// segments: shared memory of one computer. Files between client and sidecar, agreed in hello, and memory of an engine's device between client and engine host.

import { z } from "zod";
import { method } from "./method.ts";
import { count, id, segmentIndex, text } from "./values.ts";

/** How both ends reach the same memory: a handle of CUDA's for a GPU, a sealed file in memory where the engine's device is the processor. */
export const segmentMedium = z.enum(["cuda-ipc", "memfd"]);

export const deviceSegment = z.object({
  /** One index stands for one segment for ever; it is never given again. */
  index: segmentIndex,
  medium: segmentMedium,
  bytes: count,
  /** What the medium opens it by, in base64. Never logged, never repeated in an error. */
  handle: z.string().max(1024),
  /** Where its host rings when an output is there (`engine.step`, `reply.bell`): opened as a `memfd`, a whole number of 8 bytes at its start. Null: it cannot. */
  bell: z.string().max(1024).nullable(),
});

export const segmentMethods = {
  "segments.confirm": method({
    summary:
      "Proves that the client sees the same memory: the first 32 bytes of both files of hello, hashed, or of one device segment. Without it tensors travel otherwise.",
    role: "read",
    tensors: "none",
    params: z.strictObject({ proof: z.string().length(64), segment: segmentIndex.exactOptional() }),
    result: z.object({ enabled: z.boolean() }),
  }),
  "segments.open": method({
    summary:
      "Asks for memory of the engine's own device that client and engine host both use for tensors of steps. Null, with the reason, where they have no such memory in common.",
    role: "control",
    tensors: "none",
    params: z.strictObject({
      lease: id,
      medium: segmentMedium,
      /** Of the device that the client's tensors lie on, by a name that is the same in every process: the UUID of a GPU. */
      device: z.string().min(1).max(200),
      bytes: count,
    }),
    result: z.object({ segment: deviceSegment.nullable(), reason: text.nullable() }),
  }),
  "segments.close": method({
    summary: "Gives a device segment back, after the client has closed its end; unknown ones are ignored.",
    role: "control",
    tensors: "none",
    params: z.strictObject({ segment: segmentIndex }),
    result: z.object({}),
  }),
} as const;

// Values that several message families carry. Every text and list has a cap: what is refused by its size costs nothing to refuse.

import { z } from "zod";
import { familyNames, type Family } from "../families/index.ts";

export const count = z.int().nonnegative();
export const milliseconds = z.number().nonnegative();
export const text = z.string().max(2000);

/** Opaque to clients. */
export const id = z.string().min(1).max(200);
export const sha256 = z.string().regex(/^[0-9a-f]{64}$/, "expected a SHA-256 in lower-case hex");

/** One of the families of protocol/families. The schema says no names, so that a client needs no new one for a new family. */
export const family = z
  .string()
  .refine(
    (name): name is Family => (familyNames as readonly string[]).includes(name),
    `expected a family's name: ${familyNames.join(", ")}`,
  );
export const precision = z.enum(["auto", "fp32", "fp16", "bf16", "fp8", "int8", "nvfp4"]);
export const hostKind = z.enum(["auto", "onnxruntime", "torch", "tensorrt"]);
export const mode = z.enum(["comfyui", "extended"]);

/** Beyond 100 a strength is a typing mistake, and half floats overflow. */
export const strength = z.number().min(-100).max(100);

/** A name of a catalogued adapter: its id, or the SHA-256 of its content. */
export const adapterRef = id;
export const stackItem = z.strictObject({
  adapter: adapterRef,
  strength,
  /**
   * What the client's own loader makes of the adapter on this model: SHA-256 over the sorted lines `parameter<TAB>start,length<TAB>swap`, without `.weight` or
   * `.scale` at a parameter's end. Another reading here is refused (DELTA_TARGETS_DIFFER) instead of giving another picture.
   */
  targets: sha256.exactOptional(),
});
/** Nobody stacks a hundred adapters; the cap bounds the work of one call. */
export const stack = z.array(stackItem).max(100);

export const problem = z.object({ code: z.string(), message: text });

export const weights = z.object({ checkpoint: id, stack: z.array(z.object({ sha256, strength: z.number() })) });
export const engineStateName = z.enum(["LIVE", "NEEDS_REFIT", "NEEDS_RECOMPILE", "UNKNOWN"]);

const tensorDtype = z.enum(["f32", "f16", "bf16", "u8", "i64"]);

/** Which segment of the session: 0 and 1 are those of hello, others those of `segments.open`. */
export const segmentIndex = z
  .int()
  .nonnegative()
  .max(2 ** 31 - 1);

/** Where a tensor lies: in the frame's payload, or at `offset` of a negotiated segment. The codec checks it further. */
export const tensorDescriptor = z.strictObject({
  name: z.string().min(1).max(512),
  dtype: tensorDtype,
  shape: z.array(count).max(8),
  offset: count,
  bytes: count,
  segment: segmentIndex.exactOptional(),
});
export const tensors = z.array(tensorDescriptor).max(65_535);

/** A free part of a segment that the sender of the call owns until it is answered. */
export const segmentRange = z.strictObject({ segment: segmentIndex, offset: count, bytes: count });

export const empty = z.strictObject({});
export const nothing = z.object({});

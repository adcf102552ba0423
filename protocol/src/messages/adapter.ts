// adapter: finding an adapter by its tensors, and sending one by content when no folder has it.

import { z } from "zod";
import { method } from "./method.ts";
import { count, id, sha256, tensors } from "./values.ts";

const storedDtype = z.enum(["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "I32", "I16", "I8", "U8", "BOOL"]);

/** What an adapter does to one parameter of the model. */
export const touchedLayer = z.object({
  /** Canonical name of the parameter. */
  parameter: z.string(),
  kinds: z.array(z.string()),
  rank: count.nullable(),
  /** Frobenius norm of the change at strength 1; null where it depends on the checkpoint's values (DoRA, OFT, GLoRA, whole weights). */
  norm: z.number().nonnegative().nullable(),
});

export const adapterMethods = {
  "adapter.layers": method({
    summary:
      "What an adapter touches: each parameter with the norm of its change. Names are those of a checkpoint of its family; without one in the folders there are no layers.",
    role: "read",
    tensors: "none",
    params: z.strictObject({
      id,
      /** Id of the checkpoint to name layers by; without it one of the family is taken. */ checkpoint: id.exactOptional(),
    }),
    result: z.object({
      /** Whose names they are. */
      checkpoint: id.nullable(),
      layers: z.array(touchedLayer).max(20_000),
      ignored: count,
      failed: count,
    }),
  }),
  "adapter.find": method({
    summary:
      "The catalogued or pushed adapter that holds every one of these tensors with the same bytes, shape and dtype; null when there is none.",
    role: "read",
    tensors: "none",
    params: z.strictObject({
      /** SHA-256 of each tensor's bytes as stored; `key` where the caller knows it. */
      tensors: z
        .array(z.strictObject({ key: z.string().max(512).exactOptional(), dtype: storedDtype, shape: z.array(count).max(8), sha256 }))
        .min(1)
        .max(8192),
    }),
    result: z.object({ adapter: z.object({ id, sha256, name: z.string() }).nullable() }),
  }),
  "adapter.push": method({
    summary:
      "Sends an adapter's tensors by content, under the key names of its file. Large ones in several calls with the same `push`; the call with `last` answers with the adapter.",
    role: "control",
    tensors: "in",
    params: z.strictObject({
      /** Chosen by the client, unique among its unfinished pushes. */
      push: z.string().min(1).max(64),
      /** For lists and logs. */
      name: z.string().min(1).max(200).exactOptional(),
      last: z.boolean(),
      tensors: tensors.exactOptional(),
    }),
    result: z.object({
      /** null until `last`. `sha256` depends on names, dtypes, shapes and bytes alone, not on order or on the cut into calls. */
      adapter: z.object({ id, sha256, sizeBytes: count, /** It was here already. */ known: z.boolean() }).nullable(),
    }),
  }),
} as const;

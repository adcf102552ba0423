// catalog: what the watched folders hold. Clients see ids and names relative to a folder, never paths.

import { z } from "zod";
import { method } from "./method.ts";
import { count, family, id, problem, sha256 } from "./values.ts";

export const catalogEntry = z.object({
  id,
  kind: z.enum(["adapter", "checkpoint"]),
  /** Relative to its folder, `/` between parts. */
  name: z.string(),
  /** null: pushed by content, in no folder. */
  folder: id.nullable(),
  sizeBytes: count,
  /** null while it is not hashed yet. */
  sha256: sha256.nullable(),
  /** A checkpoint may be known by a sampled hash until the full one is confirmed. */
  proof: z.enum(["full", "sampled"]).nullable(),
  family: family.nullable(),
  variant: z.string().nullable(),
  structure: z.string().nullable(),
  /** Adapter kinds found in the header (lora, loha, lokr, …). */
  kinds: z.array(z.string()),
  delta: z.enum(["none", "pending", "ready", "failed"]),
  problem: problem.nullable(),
});

/** The answer waits until the file's content is hashed, which is begun at once. An entry that cannot be used is answered as it is. */
const hash = z.boolean().exactOptional();
/** What people wrote about an adapter, in its metadata or in files beside it. Texts are plain, without markup; lists are cut. */
export const adapterNotes = z.object({
  id,
  title: z.string().max(200).nullable(),
  /** The base model by its maker's word (SDXL 1.0, Pony, Illustrious); a family says what fits, this what it was trained on. */
  base: z.string().max(100).nullable(),
  triggerWords: z.array(z.string().max(300)).max(40),
  rank: count.nullable(),
  description: z.string().max(2000).nullable(),
  /** A picture lies beside the file; `catalog.preview` gives it. */
  preview: z.boolean(),
});

export const catalogMethods = {
  "catalog.list": method({
    summary: "A page of the catalog, in name order; with `ids`, of these entries alone. Ids that are none are left out.",
    role: "read",
    tensors: "none",
    params: z.strictObject({
      kind: z.enum(["adapter", "checkpoint"]).exactOptional(),
      family: family.exactOptional(),
      structure: z.string().max(64).exactOptional(),
      folder: id.exactOptional(),
      ids: z.array(id).max(1000).exactOptional(),
      /** `next` of the page before. */
      after: z.string().max(4096).exactOptional(),
      limit: z.int().positive().max(1000).exactOptional(),
    }),
    result: z.object({ generation: count, entries: z.array(catalogEntry), next: z.string().nullable() }),
  }),
  "catalog.get": method({
    summary: "One entry by id, by the SHA-256 of its content, or by folder and name; hashed on demand.",
    role: "read",
    tensors: "none",
    params: z.union([
      z.strictObject({ id, hash }),
      z.strictObject({ sha256 }),
      z.strictObject({ folder: id, name: z.string().min(1).max(4096), hash }),
    ]),
    result: z.object({ generation: count, entry: catalogEntry }),
  }),
  "catalog.notes": method({
    summary:
      "What people wrote about these adapters: title, base model, trigger words, rank. Ids that are none of an adapter are left out.",
    role: "read",
    tensors: "none",
    params: z.strictObject({ ids: z.array(id).max(100) }),
    result: z.object({ notes: z.array(adapterNotes) }),
  }),
  "catalog.preview": method({
    summary:
      "The preview picture beside an adapter's file (name.preview.png, name.png and their like). Null when there is none, or none that is shown: PNG, JPEG or WebP by its content, at most 4 MiB and 8,192 pixels a side.",
    role: "read",
    tensors: "none",
    params: z.strictObject({ id }),
    result: z.object({
      picture: z
        .object({
          type: z.enum(["image/png", "image/jpeg", "image/webp"]),
          width: count,
          height: count,
          /** Base64. */
          data: z.string(),
        })
        .nullable(),
    }),
  }),
} as const;

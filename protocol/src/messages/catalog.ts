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

export const catalogMethods = {
  "catalog.list": method({
    summary: "A page of the catalog, in name order.",
    role: "read",
    tensors: "none",
    params: z.strictObject({
      kind: z.enum(["adapter", "checkpoint"]).exactOptional(),
      family: family.exactOptional(),
      structure: z.string().max(64).exactOptional(),
      folder: id.exactOptional(),
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
} as const;

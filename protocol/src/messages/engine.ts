// engine: bring an engine to a desired state, step on it under a lease, give it back; and the operators' buttons.

import { z } from "zod";
import { method } from "./method.ts";
import {
  adapterRef,
  count,
  empty,
  engineStateName,
  family,
  hostKind,
  id,
  milliseconds,
  mode,
  nothing,
  precision,
  sha256,
  stack,
  text,
  weights,
} from "./values.ts";

export const port = z.object({
  name: z.string(),
  dtype: z.enum(["f32", "f16", "bf16", "i64"]),
  /** Numbers are fixed, names are free. */
  shape: z.array(z.union([count, z.string()])),
  /** A step may come without it. */
  optional: z.boolean().exactOptional(),
});

export const keyReason = z.object({ key: z.string(), reason: text });

/** What became of one adapter's keys. Lists are cut at 200 rows; the counts are whole. */
export const adapterReport = z.object({
  adapter: adapterRef,
  sha256,
  used: count,
  ignored: count,
  failed: count,
  ignoredKeys: z.array(keyReason).max(200),
  failedKeys: z.array(keyReason).max(200),
});

/** How an engine serves, by its host's own word. Errors are relative to the engine before it was quantised. */
export const serving = z.object({
  /** In words: eager, CUDA graphs, compiled blocks, fused blocks. */
  tier: z.string(),
  /** Faster ways that were tried and are not used. */
  refused: z.array(z.object({ steps: text, reason: text })),
  /** Where pristine weights stay: resident, pinned or file. */
  base: z.string(),
  deviceBytes: count,
  /** Weights that are copied to the device for every step. */
  streamedBytes: count,
  quantised: z.object({ format: z.string(), way: z.string(), weightError: z.number(), outputError: z.number().nullable() }).nullable(),
});

/**
 * How much of an adapter's change the weights got: its projection on what the adapter intends (1: all of it, 0: rounding swallowed it) and the lost share (noise counts too).
 * `merged` and `branched`: parameters that it reaches in the weights, and beside them as a low-rank branch.
 */
export const adapterLoss = z.object({
  adapter: sha256,
  projection: z.number(),
  lostShare: z.number().nonnegative(),
  merged: count,
  branched: count,
});

export const engineInfo = z.object({
  id,
  structure: z.string(),
  family: family.nullable(),
  precision: z.string(),
  host: z.string(),
  device: z.string(),
  state: engineStateName,
  reason: text.nullable(),
  weights: weights.nullable(),
  memoryBytes: count,
  leases: count,
  steps: count,
  lastRefit: z.object({ at: z.string(), ms: milliseconds, writes: count }).nullable(),
  /** Null before the host has told it, and for a host that knows one way only. */
  serving: serving.nullable(),
  /** Of the present stack, in its order; adapters of which nothing is known are left out. */
  losses: z.array(adapterLoss).max(200),
});

const wanted = {
  checkpoint: id,
  stack,
  precision,
  host: hostKind,
  mode,
  /** ControlNet residual inputs are needed. */
  residuals: z.boolean(),
  /** Quantised engines: the share of an adapter's change, 0 to 1, that rounding may swallow before the adapter stays beside the layer. Absent: the option `adapter-loss`. */
  adapterLoss: z.number().min(0).max(1).exactOptional(),
};

/** Params that earlier clients of protocol version 1 still send, and that mean nothing any more: one engine serves every size, and steps of users always go first. They are taken off before a call is checked. */
export const retiredParams: Readonly<Record<string, readonly string[]>> = {
  "engine.prepare": ["profile", "priority"],
  "engine.warm": ["profile", "priority"],
};

/** One change of an engine's weights, with where its time went. */
export const refitRecord = z.object({
  engine: id,
  at: z.string(),
  kind: z.enum(["load", "refit", "recovery"]),
  full: z.boolean(),
  writes: count,
  bytesRead: count,
  bytesWritten: count,
  /** Planning, reading and merging, while the engine goes on with its old weights. */
  prepareMs: milliseconds,
  /** The swap: the engine takes no step. */
  commitMs: milliseconds,
  mode: z.enum(["staged", "inPlace"]).nullable(),
  /** Code of the failure that kept the old weights. */
  failure: z.string().nullable(),
});

export const engineMethods = {
  "engine.restack": method({
    summary:
      "Brings a loaded engine to another stack on the checkpoint that it has, and leaves it there. A run that follows brings its own stack.",
    role: "control",
    tensors: "none",
    params: z.strictObject({ engine: id, stack }),
    result: z.object({ ms: milliseconds, refit: z.object({ writes: count, full: z.boolean() }).nullable() }),
  }),
  "engine.draw": method({
    summary:
      "Draws a small picture on a loaded engine from a fixed seed and no prompt, to see what a strength does: digits on the demo's model, a coarse look at the latents of SD 1.5 and SDXL.",
    role: "control",
    tensors: "none",
    params: z.strictObject({ engine: id, stack, seed: z.int().min(0).max(4_294_967_295), steps: z.int().min(1).max(20) }),
    result: z.object({
      /** Base64 of a PNG. */
      png: z.string(),
      width: count,
      height: count,
      shows: z.enum(["digits", "latents"]),
      ms: z.object({ refit: milliseconds, steps: milliseconds }),
    }),
  }),
  "engine.history": method({
    summary: "The last changes of engines' weights, oldest first, with the time of each phase.",
    role: "read",
    tensors: "none",
    params: z.strictObject({ limit: z.int().positive().max(500).exactOptional() }),
    result: z.object({ records: z.array(refitRecord) }),
  }),
  "engine.prepare": method({
    summary:
      "Brings an engine to this checkpoint and stack and leases it. Progress is notified; can be cancelled. Nothing is ever taken from an earlier call.",
    role: "control",
    tensors: "none",
    params: z.strictObject({
      ...wanted,
      /** The lease follows files that are replaced, between two steps. Without it the lease keeps the weights that it was prepared with. */
      follow: z.boolean().exactOptional(),
    }),
    result: z.object({
      lease: id,
      /** A lease that is not used for this long ends by itself. */
      leaseIdleMs: milliseconds,
      engine: id,
      host: z.string(),
      precision: z.string(),
      inputs: z.array(port),
      outputs: z.array(port),
      /** Time to prepare, whole and where it went; `refit` is 0 when the weights were already right. */
      ms: z.object({ total: milliseconds, delta: milliseconds, load: milliseconds, refit: milliseconds }),
      refit: z.object({ writes: count, bytes: count, full: z.boolean() }).nullable(),
      adapters: z.array(adapterReport),
    }),
  }),
  "engine.ahead": method({
    summary:
      "Brings the engine of this client's last lease to other weights while the client makes its next prompt ready, if nobody else has used it since. A guess: `engine.prepare` decides.",
    role: "control",
    tensors: "none",
    params: z.strictObject({
      ...wanted,
      /** The client's last lease; it has been released. */
      after: id,
    }),
    result: z.object({
      /** The weights are there. False: somebody else uses the engine, or it is another one; adapters are read all the same. */
      brought: z.boolean(),
    }),
  }),
  "engine.release": method({
    summary: "Ends a lease.",
    role: "control",
    tensors: "none",
    params: z.strictObject({ lease: id }),
    result: nothing,
  }),
  "engine.warm": method({
    summary: "Does in the background what prepare would do, so that a later prepare finds it done.",
    role: "control",
    tensors: "none",
    params: z.strictObject(wanted),
    result: z.object({ job: id }),
  }),
  "engine.list": method({
    summary: "Engines with state, weights and memory.",
    role: "read",
    tensors: "none",
    params: empty,
    result: z.object({ engines: z.array(engineInfo) }),
  }),
  "engine.refit": method({
    summary: "Writes all weights again from the files, whatever the engine is believed to hold.",
    role: "control",
    tensors: "none",
    params: z.strictObject({ engine: id }),
    result: z.object({ job: id }),
  }),
  "engine.rebuild": method({
    summary: "Builds the engine anew in the background.",
    role: "control",
    tensors: "none",
    params: z.strictObject({ engine: id }),
    result: z.object({ job: id }),
  }),
  "engine.free": method({
    summary:
      "Unloads one engine, or all (null); one in use goes when its leases end. With `keep` its weights only leave the device, and come back with its next use without a load.",
    role: "control",
    tensors: "none",
    params: z.strictObject({ engine: id.nullable(), keep: z.boolean().exactOptional() }),
    result: z.object({ freed: z.array(id), queued: z.array(id), bytes: count }),
  }),
} as const;

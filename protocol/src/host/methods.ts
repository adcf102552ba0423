// Every method of the host protocol with the schemas of its params and result. Tensors travel beside them in the frame (`tensors`), never inside.

import { z } from "zod";
import {
  adapterLosses,
  adapterLossLimit,
  bytes,
  checkpointSource,
  checksums,
  generation,
  medium,
  milliseconds,
  quantised,
  refitPlan,
  segmentName,
  shape,
  stackFile,
  weightDtype,
} from "./values.ts";

export const hostProtocolVersion = 1;

const engine = z.string().min(1).max(200);
const token = z.string().min(1).max(200);
const empty = z.object({});
const count = z.int().nonnegative();
/** Name of an input, key of its content. */
const keptInputs = z.record(z.string().min(1).max(200), z.string().min(1).max(200));
/** A step belongs to one session, which has one segment for requests. */
const maxSegments = 8;

/** Where an engine's weights lie and how it steps. `tier` is in words; `refused`: faster ways that were tried and are not used. */
const placement = z.looseObject({
  base: z.string(),
  tier: z.string().max(200),
  deviceBytes: bytes,
  streamedBytes: bytes,
  refused: z
    .array(z.object({ steps: z.string().max(200), reason: z.string().max(2000) }))
    .max(64)
    .default([]),
});

export const hostMethods = {
  /** First call of every session. */
  hello: {
    params: z.object({
      protocolVersion: z.int(),
      /** The owner-only folder of this sidecar's segments: the only place where a host looks for one. */
      segments: z.string().min(1).exactOptional(),
    }),
    result: z.object({
      protocolVersion: z.int(),
      kind: z.string(),
      versions: z.record(z.string(), z.string()),
      device: z.object({ type: z.string(), name: z.string(), capability: z.string().exactOptional(), driver: z.string().exactOptional() }),
      precisions: z.array(weightDtype),
      memory: z.object({ totalBytes: bytes, freeBytes: bytes }),
      /** It reads a step's tensors from segments of the folder that it was told. */
      segments: z.boolean().exactOptional(),
      /** It shares memory of its device with clients on this computer (`share`): how, and which device, by a name that is the same in every process. */
      shares: z.object({ medium, device: z.string().min(1).max(200) }).exactOptional(),
      /** It keeps inputs of steps on its device under keys (`step.keep`, `step.use`). */
      keepsInputs: z.boolean().exactOptional(),
    }),
  },
  /** Makes an engine and writes all of its weights. Without a graph and without `steps` only the parameters exist: load, refit, read back. */
  load: {
    params: z.object({
      engine,
      graph: z.object({ folder: z.string().min(1), variant: z.string().min(1) }).nullable(),
      /** Name to shape; required without a graph, not allowed with one. */
      parameters: z.record(z.string(), shape).exactOptional(),
      /** Without a graph: the host has a module of its own for such a structure, and the engine steps with it. */
      steps: z.boolean().exactOptional(),
      weightDtype,
      checkpoint: checkpointSource,
      stack: z.array(stackFile),
      /** Quantised engines; the host's own limit where it is absent. */
      adapterLoss: adapterLossLimit.exactOptional(),
      /** Also answer with the checksums of the values computed from the files, to be compared with `checksums` of what the engine holds. */
      verify: z.boolean().exactOptional(),
    }),
    result: z.object({
      ms: milliseconds,
      parameters: count,
      bytes,
      sessionLoads: count,
      generation,
      losses: adapterLosses.exactOptional(),
      quantised: quantised.exactOptional(),
      sha256: checksums.exactOptional(),
    }),
  },
  /** Computes a refit without changing anything live. Whatever can fail, fails here. */
  prepare: {
    params: z.object({
      engine,
      /** The generation that the plan starts from; HOST_PLAN_STALE when the engine has moved on. */
      generation,
      plan: refitPlan,
      /** null: the one that the engine has, from the files that it was read from. Its table has thousands of rows, and most refits keep it. */
      checkpoint: checkpointSource.nullable(),
      stack: z.array(stackFile),
      adapterLoss: adapterLossLimit.exactOptional(),
      verify: z.boolean().exactOptional(),
    }),
    result: z.object({
      token,
      writes: count,
      bytesRead: bytes,
      bytesWritten: bytes,
      ms: milliseconds,
      /** `staged`: commit swaps finished values in. `inPlace`: too big to stage; commit computes them again into the live weights. */
      mode: z.enum(["staged", "inPlace"]),
      sha256: checksums.exactOptional(),
    }),
  },
  /** `losses`: of the stack that is live now; known once its weights are written. */
  commit: {
    params: z.object({ engine, token }),
    result: z.object({ ms: milliseconds, writes: count, generation, losses: adapterLosses.exactOptional() }),
  },
  discard: { params: z.object({ engine, token }), result: empty },
  /**
   * One denoiser call; input and output tensors travel in the frame. Inputs whose descriptors have a `segment` lie in that one of `segments`, for a host that offers to read
   * them. HOST_GENERATION_STALE when the weights are not those of `generation`.
   */
  step: {
    params: z.object({
      engine,
      generation,
      segments: z.array(segmentName).max(maxSegments).exactOptional(),
      /** Where the outputs go, in memory that this host shares; what does not fit there comes in the frame. */
      reply: z
        .object({
          segment: segmentName,
          offset: bytes,
          bytes,
          /** Written into the memory's bell once the outputs are there. */
          bell: count.exactOptional(),
        })
        .exactOptional(),
      /** Name of an input that this step brings, to the key under which the host keeps it for later steps. A key stands for one content for ever. */
      keep: keptInputs.exactOptional(),
      /** Name of an input that this step does not bring, to the key of the one that the host has. HOST_INPUT_FORGOTTEN when it has let it go. */
      use: keptInputs.exactOptional(),
    }),
    result: z.object({ ms: milliseconds }),
  },
  /** New memory of the device for one client, filled with zeros behind its first 32 bytes, which are random. HOST_SHARE_REFUSED says why not. */
  share: {
    params: z.object({ medium, device: z.string().min(1).max(200), bytes }),
    result: z.object({
      name: segmentName,
      bytes,
      /** What another process opens it by, in base64. */
      handle: z.string().max(1024),
      /** A page of main memory of its own, opened as a `memfd`: `step.reply.bell` rings there. */
      bell: z.string().max(1024).exactOptional(),
      /** SHA-256 of its first 32 bytes, in hex: whoever knows it sees the same memory. */
      proof: z.string().length(64),
    }),
  },
  /** No client uses it any more. 0 bytes for a name that is unknown. */
  unshare: { params: z.object({ name: segmentName }), result: z.object({ bytes }) },
  /** Weights in canonical layout and engine dtype. */
  readBack: { params: z.object({ engine, parameters: z.array(z.string()) }), result: empty },
  checksums: { params: z.object({ engine, parameters: z.array(z.string()).exactOptional() }), result: z.object({ sha256: checksums }) },
  unload: { params: z.object({ engine }), result: z.object({ bytes }) },
  /** The engine's weights leave the device; whatever needs them next brings them back as they were. 0 bytes while it is in use, or where the host has no device memory to give. */
  offload: { params: z.object({ engine }), result: z.object({ bytes }) },
  status: {
    params: empty,
    result: z.object({
      engines: z.array(
        z.object({
          engine,
          generation,
          /** A commit was cut short: no step until a full plan is committed. */
          dirty: z.boolean(),
          bytes,
          parameters: count,
          prepared: z.array(token),
          /** The weights are off the device. */
          away: z.boolean().exactOptional(),
          /** GPU hosts: where the weights lie and how steps run, in the host's words. */
          placement: placement.exactOptional(),
          quantised: quantised.exactOptional(),
          /** Of the present stack, as the last commit answered. */
          losses: adapterLosses.exactOptional(),
          /** How its steps run now, in words. */
          tier: z.string().max(200).exactOptional(),
        }),
      ),
      sessionLoads: count,
      memory: z.object({
        totalBytes: bytes,
        freeBytes: bytes,
        processBytes: bytes,
        /** Of the device, shared with clients. */
        sharedBytes: bytes.exactOptional(),
      }),
    }),
  },
  /** Ends the host after its answer. Closing its stdin does the same. */
  shutdown: { params: empty, result: empty },
  /** The named call answers HOST_CANCELLED, unless it has finished. A running step is not interrupted. */
  cancel: { params: z.object({ id: z.int() }), result: empty },
} as const;

export type HostMethod = keyof typeof hostMethods;
export type HostParams<M extends HostMethod> = z.input<(typeof hostMethods)[M]["params"]>;
export type HostResult<M extends HostMethod> = z.output<(typeof hostMethods)[M]["result"]>;

/** Notifications from the host. */
export const hostNotifications = {
  /** `id` is the request that makes progress. */
  progress: z.object({ id: z.int(), stage: z.string(), done: z.number(), total: z.number() }),
  log: z.object({ level: z.enum(["debug", "info", "warn", "error"]), message: z.string() }),
  /** An engine steps in another way than before, or a faster way was refused; sent after its load too. */
  serving: z.object({ engine, placement, quantised: quantised.exactOptional() }),
} as const;
export type HostNotification = keyof typeof hostNotifications;
export type HostNotificationParams<N extends HostNotification> = z.output<(typeof hostNotifications)[N]>;

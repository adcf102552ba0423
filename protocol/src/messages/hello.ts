// hello: the first call of a session. Versions, capabilities, limits and, on one computer, shared memory are agreed here.

import { z } from "zod";
import { method, notificationOf } from "./method.ts";
import { count, empty, id, text } from "./values.ts";

export const protocolVersion = 1;

/** What a side may offer. What both offer is on. */
export const capability = z.enum(["segments", "events", "push", "memory"]);
export type Capability = z.infer<typeof capability>;

export const segment = z.object({
  index: count,
  /** A file that only this user may open. Never logged, never repeated in an error. */
  path: z.string(),
  bytes: count,
});

export const helloMethods = {
  hello: method({
    summary: "Opens the session: agrees on a version, capabilities, limits and segments.",
    role: "read",
    tensors: "none",
    params: z.strictObject({
      /** Every version that the client speaks; the highest common one is taken. */
      protocolVersions: z.array(z.int().positive()).min(1).max(16),
      client: z.strictObject({ name: z.string().min(1).max(100), version: z.string().min(1).max(100) }),
      capabilities: z.array(z.string().max(40)).max(32),
      /** Sizes of the two segments, for a client on the same computer. */
      segments: z.strictObject({ requestBytes: count, replyBytes: count }).exactOptional(),
    }),
    result: z.object({
      protocolVersion: z.int(),
      server: z.object({ name: z.string(), version: z.string() }),
      session: id,
      role: z.enum(["read", "control"]),
      capabilities: z.array(capability),
      limits: z.object({
        /** Bytes of one WebSocket message. */
        messageBytes: count,
        /** Calls without an answer at one time. */
        inFlight: count,
        /** Conditioning kept for this session. */
        conditioningBytes: count,
        /** Tensors of one pushed adapter, all frames together. */
        pushBytes: count,
      }),
      /** `request` is written by the client, `reply` by the sidecar. null: frames only. */
      segments: z.object({ request: segment, reply: segment }).nullable(),
    }),
  }),
  cancel: method({
    summary: "Cancels a call of this session. The call answers WIRE_CANCELLED, unless it had finished.",
    role: "read",
    tensors: "none",
    params: z.strictObject({ request: z.union([z.int(), z.string().min(1).max(64)]) }),
    result: z.object({ cancelled: z.boolean() }),
  }),
  ping: method({ summary: "Answers at once.", role: "read", tensors: "none", params: empty, result: z.object({}) }),
} as const;

export const helloNotifications = {
  progress: notificationOf(
    "A call makes progress.",
    z.object({
      request: z.union([z.int(), z.string()]),
      stage: z.string(),
      done: z.number(),
      total: z.number(),
      /** An estimate from this call's own pace; null while there is none. */
      remainingMs: z.number().nullable(),
      text,
    }),
  ),
} as const;

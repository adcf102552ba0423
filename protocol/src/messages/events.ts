// events: what happened, as it happens. A client that reads too slowly misses events (told by `missed`) before it is dropped; replies are never left out.

import { z } from "zod";
import { serving } from "./engine.ts";
import { job } from "./jobs.ts";
import { method, notificationOf, type DeepReadonly } from "./method.ts";
import { count, id, milliseconds, nothing, text } from "./values.ts";

const ids = z.array(id);
const fact = <Type extends string, Fields extends z.ZodRawShape>(type: Type, fields: Fields) =>
  z.object({ type: z.literal(type), ...fields });

export const wireEvent = z.discriminatedUnion("type", [
  fact("arrival.settled", { id, kind: z.enum(["adapter", "checkpoint"]), waitedMs: milliseconds }),
  fact("arrival.refused", { id, code: z.string(), message: text }),
  fact("catalog.changed", { generation: count, added: ids, changed: ids, removed: ids }),
  fact("delta.ready", { id, ms: milliseconds, bytes: count, terms: count, cached: z.boolean() }),
  fact("delta.failed", { id, code: z.string(), message: text }),
  fact("refit.started", { engine: id, full: z.boolean(), writes: count }),
  fact("refit.committed", {
    engine: id,
    ms: milliseconds,
    writes: count,
    bytes: count,
    stack: z.array(z.object({ id, strength: z.number() })),
  }),
  fact("refit.failed", { engine: id, code: z.string(), message: text }),
  fact("engine.state", { engine: id, state: z.string(), reason: text.nullable() }),
  fact("engine.serving", { engine: id, serving }),
  fact("host.crashed", { engine: id, message: text }),
  fact("live.deleted", { id, message: text }),
  fact("live.replaced", { id, message: text }),
  fact("job.changed", { job }),
  /** Many jobs changed at once: besides those told one by one, so many more wait, run or have ended. Ask for the list. */
  fact("job.many", { queued: count, running: count, ended: count }),
]);

export type WireEventValue = DeepReadonly<z.infer<typeof wireEvent>>;

/** First part of an event's type. */
export const topic = z.enum(["arrival", "catalog", "delta", "refit", "engine", "host", "live", "job"]);
export type Topic = z.infer<typeof topic>;

export const stamped = z.object({ atMs: milliseconds, at: z.string(), event: wireEvent });

export const eventMethods = {
  "events.subscribe": method({
    summary: "Chooses the topics that this session hears of, instead of those chosen before. None: silence.",
    role: "read",
    tensors: "none",
    params: z.strictObject({ topics: z.array(topic).max(16) }),
    result: nothing,
  }),
  "events.history": method({
    summary: "The last events of the chosen topics, oldest first (refit history, arrivals, failures).",
    role: "read",
    tensors: "none",
    params: z.strictObject({ topics: z.array(topic).max(16), limit: z.int().positive().max(500).exactOptional() }),
    result: z.object({ events: z.array(stamped) }),
  }),
} as const;

export const eventNotifications = {
  event: notificationOf("Something happened.", stamped),
  "events.missed": notificationOf(
    "This many events were left out because the client read too slowly. Ask for lists again.",
    z.object({ missed: count }),
  ),
} as const;

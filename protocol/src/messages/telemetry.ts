// telemetry: how long things take, what the log said, how the sidecar is set up. For pages and support; monitors read /metrics.

import { z } from "zod";
import { method } from "./method.ts";
import { count, empty, milliseconds } from "./values.ts";

/** Times of one kind: whole counts in buckets since the start, shares of the last 1,024. */
const figure = z.object({
  name: z.enum(["step", "wait", "refit", "swap"]),
  count,
  /** Null while there are none. */
  p50Ms: milliseconds.nullable(),
  p95Ms: milliseconds.nullable(),
  p99Ms: milliseconds.nullable(),
  /** How many took at most `upToMs` and more than the bucket before; null: the rest. */
  buckets: z.array(z.object({ upToMs: milliseconds.nullable(), count })),
});

const logLine = z.object({ at: z.string(), level: z.enum(["error", "warn", "info", "debug"]), text: z.string() });

const setting = z.object({
  name: z.string(),
  /** As text; null: not set. Of folders and files only how many there are: no path leaves the sidecar. */
  value: z.string().nullable(),
  changed: z.boolean(),
  /** Taken by a running sidecar when its configuration file changes. */
  reload: z.boolean(),
  help: z.string(),
});

const cachePart = z.object({ name: z.enum(["deltas", "engines"]), entries: count, bytes: count, limitBytes: count });

export const telemetryMethods = {
  "telemetry.figures": method({
    summary: "Times of steps, of waiting for a turn, of refits and of swaps, with percentiles.",
    role: "read",
    tensors: "none",
    params: empty,
    result: z.object({ figures: z.array(figure) }),
  }),
  "telemetry.log": method({
    summary: "The last lines of the log, oldest first, without paths.",
    role: "read",
    tensors: "none",
    params: z.strictObject({ limit: z.int().positive().max(500).exactOptional() }),
    result: z.object({ lines: z.array(logLine) }),
  }),
  "settings.list": method({
    summary: "Every option with its value, and whether it is another than the default.",
    role: "read",
    tensors: "none",
    params: empty,
    result: z.object({ settings: z.array(setting) }),
  }),
  "cache.list": method({
    summary: "What the caches hold on disk: deltas, and engines with their graphs.",
    role: "read",
    tensors: "none",
    params: empty,
    result: z.object({ parts: z.array(cachePart) }),
  }),
} as const;

// The HTTP routes of a sidecar, beside the WebSocket at /ws. Documents and the pages' test are made from this table.

import { z } from "zod";
import { sampleMethods } from "./messages/sample.ts";
import { statusMethods } from "./messages/status.ts";

/** Who is let in: anybody, a token (or a browser session with its proof), the control role, a browser session or a token. */
export type HttpAccess = "open" | "token" | "control" | "browser";

export interface HttpRoute {
  readonly summary: string;
  readonly access: HttpAccess;
  /** JSON of the request; routes that take none have none. */
  readonly body?: z.ZodType;
  readonly type: "application/json" | "text/plain" | "text/html" | "text/css" | "text/javascript" | "application/yaml";
  /** JSON of the answer. */
  readonly answer?: z.ZodType;
}

/** A tensor in JSON: little-endian bytes in base64. */
const httpTensor = z.strictObject({
  name: z.string().min(1).max(512),
  dtype: z.enum(["f32", "f16", "bf16"]),
  shape: z.array(z.int().nonnegative()).max(8),
  data: z.string(),
});
const { params: sampleParams, result: sampleResult } = sampleMethods["engine.sample"];

const role = z.enum(["read", "control"]);

export const httpRoutes = {
  "GET /healthz": {
    summary: "Whether the sidecar runs; with a token also whether that token is good.",
    access: "open",
    type: "application/json",
    answer: z.object({ ok: z.literal(true), version: z.string(), authenticated: z.boolean().optional() }),
  },
  "GET /status": {
    summary: "The result of the call `status`.",
    access: "token",
    type: "application/json",
    answer: statusMethods.status.result,
  },
  "GET /metrics": { summary: "Figures as Prometheus text.", access: "token", type: "text/plain" },
  "GET /": { summary: "The dashboard; without a session the log-in page, with status 401.", access: "browser", type: "text/html" },
  "GET /dashboard.js": { summary: "The dashboard's script.", access: "browser", type: "text/javascript" },
  "GET /dashboard.css": { summary: "The dashboard's style.", access: "browser", type: "text/css" },
  "GET /api": { summary: "What can be asked over HTTP and over the WebSocket, as a page.", access: "browser", type: "text/html" },
  "GET /openapi.yaml": { summary: "These routes as OpenAPI 3.1.", access: "browser", type: "application/yaml" },
  "GET /asyncapi.yaml": { summary: "The WebSocket's messages as AsyncAPI 3.0.", access: "browser", type: "application/yaml" },
  "GET /login": { summary: "The log-in page.", access: "open", type: "text/html" },
  "POST /session": {
    summary: "A browser session for a token or a ticket: a cookie, and the proof that goes with each later request.",
    access: "open",
    type: "application/json",
    body: z.union([z.object({ token: z.string() }), z.object({ ticket: z.string() })]),
    answer: z.object({ proof: z.string(), role }),
  },
  "POST /ticket": {
    summary: "A ticket, good once and for a few minutes; for a WebSocket of a browser, or a link that logs in.",
    access: "token",
    type: "application/json",
    body: z.object({ role: z.literal("read").optional() }),
    answer: z.object({ ticket: z.string(), role }),
  },
  "POST /sample": {
    summary:
      "The call `engine.sample`: pictures in one request, with tensors in base64. With `Accept: application/octet-stream` the latents come as a safetensors file.",
    access: "control",
    type: "application/json",
    body: sampleParams.omit({ use: true, reply: true, previews: true, tensors: true }).extend({ tensors: z.array(httpTensor).max(64) }),
    answer: sampleResult.omit({ tensors: true }).extend({ tensors: z.array(httpTensor) }),
  },
  "POST /stop": {
    summary: "Ends the sidecar.",
    access: "control",
    type: "application/json",
    body: z.object({}),
    answer: z.object({ stopping: z.literal(true) }),
  },
  "POST /logout": {
    summary: "Ends the browser session.",
    access: "token",
    type: "application/json",
    body: z.object({}),
    answer: z.object({}),
  },
} as const satisfies Readonly<Record<string, HttpRoute>>;

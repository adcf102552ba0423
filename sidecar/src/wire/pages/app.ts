// The HTTP pages. Open: /healthz and the log-in page. Everything else needs a token, or a browser session (cookie and proof).

import express, { type Express, type NextFunction, type Request, type Response } from "express";
import type { ErrorCode, Role } from "@refit-sidecar/protocol";
import { admitRequest, checkPlace, cookieName, readCookie, roleOfToken, type Access, type Admission } from "../access/index.ts";
import { logText, wireJson } from "../failures.ts";
import { limits, times } from "../limits.ts";
import type { Log } from "../../telemetry/index.ts";
import { errorBody, httpStatus } from "../upgrade.ts";
import type { WireBackend } from "../backend.ts";
import { sampleRoute } from "./sample-route.ts";
import { assetPaths, createAssets, type Asset } from "./assets.ts";

export interface PageParts {
  readonly access: Access;
  readonly version: string;
  readonly secure: boolean;
  readonly status: () => Promise<unknown>;
  readonly metricsText: () => string;
  readonly refused: (code: ErrorCode) => void;
  /** Somebody with the control token wants the sidecar to end; called when the answer is on its way. */
  readonly stop: () => void;
  readonly sample: WireBackend["sample"];
  readonly log: Log;
}

/** What a body's reader found, in our words: its own can hold pieces of the body. Undefined: the code's own text says it. */
function bodyProblem(error: unknown): string | undefined {
  const { type, limit } = error as { readonly type?: unknown; readonly limit?: unknown };
  if (type === "entity.parse.failed") return "expected a JSON object, and what came is no JSON (NaN and Infinity have no place there)";
  return type === "entity.too.large" ? `expected a body of at most ${String(limit)} bytes` : undefined;
}

const headers = {
  "Cache-Control": "no-store",
  "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
} as const;

export function createPages(parts: PageParts): Express {
  const { access, log } = parts;
  const assets = createAssets();
  const app = express();
  app.disable("x-powered-by");
  app.disable("etag");

  const refuse = (response: Response, code: ErrorCode, message?: string): void => {
    parts.refused(code);
    const status = httpStatus(code);
    if (status === 401) response.setHeader("WWW-Authenticate", "Bearer");
    response.status(status).type("application/json").send(errorBody(code, message));
  };
  const sendAsset = (response: Response, status: number, { type, body, policy }: Asset): void => {
    response.status(status).setHeader("Content-Security-Policy", policy).type(type).send(body);
  };

  app.use((request, response, next) => {
    response.set(headers);
    const origin = request.headers.origin;
    if (origin !== undefined && access.rules().origins.includes(origin)) {
      response.set({
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Headers": "authorization, content-type",
        "Cross-Origin-Resource-Policy": "cross-origin",
        Vary: "Origin",
      });
    }
    const misplaced = checkPlace(request.headers, access);
    if (misplaced !== null) return refuse(response, misplaced);
    if (request.method === "OPTIONS") return void response.status(204).end();
    // What an HTML form can send is never JSON; this refuses it before anything reads it.
    if (request.method !== "GET" && request.method !== "HEAD" && !request.is("application/json"))
      return refuse(response, "WIRE_BODY_REFUSED");
    next();
  });
  type Admitted = Admission & { readonly admitted: true };
  /** A cookie without its proof opens nothing here. */
  const admitted =
    (serve: (request: Request, response: Response, admission: Admitted, next: NextFunction) => Promise<void> | void) =>
    async (request: Request, response: Response, next: NextFunction) => {
      const admission = admitRequest(request.headers, access);
      if (!admission.admitted) return refuse(response, admission.code);
      if (admission.by === "cookie") return refuse(response, "WIRE_UNAUTHORIZED");
      await serve(request, response, admission, next);
    };
  const toControl = admitted((_request, response, { role }, next) => (role === "control" ? next() : refuse(response, "WIRE_ROLE")));
  // Before anything reads a large body it is known who sends it.
  app.post(
    "/sample",
    toControl,
    express.json({ limit: limits.httpSampleBytes, strict: true, type: "application/json" }),
    sampleRoute(parts),
  );
  app.use(express.json({ limit: limits.httpBodyBytes, strict: true, type: "application/json" }));

  app.get("/healthz", (request, response) => {
    const asked = request.headers.authorization !== undefined;
    response.json({
      ok: true,
      version: parts.version,
      ...(asked ? { authenticated: admitRequest(request.headers, access).admitted } : {}),
    });
  });

  app.post("/session", (request, response) => {
    const body: unknown = request.body;
    const given = typeof body === "object" && body !== null ? body : {};
    let role: Role | null = null;
    if ("ticket" in given && typeof given.ticket === "string") role = access.browsers.redeemTicket(given.ticket);
    else if ("token" in given && typeof given.token === "string") role = roleOfToken(given.token, access.tokens);
    if (role === null) return refuse(response, "ticket" in given ? "WIRE_TICKET_INVALID" : "WIRE_UNAUTHORIZED");
    const { cookie, proof } = access.browsers.open(role);
    response.cookie(cookieName(access), cookie, {
      httpOnly: true,
      sameSite: "strict",
      secure: parts.secure,
      path: "/",
      maxAge: times.browserSessionMs,
    });
    response.json({ proof, role });
  });

  app.get("/login", async (_request, response) => sendAsset(response, 200, await assets.login()));
  app.get([...assetPaths], async (request, response) => {
    const path = assetPaths.find((one) => one === request.path);
    const admission = admitRequest(request.headers, access);
    if (admission.admitted && path !== undefined) return sendAsset(response, 200, await assets.get(path));
    if (path === "/" && request.headers.authorization === undefined) return sendAsset(response, 401, await assets.login());
    refuse(response, admission.admitted ? "WIRE_METHOD_UNKNOWN" : admission.code);
  });

  app.get(
    "/status",
    admitted(async (_request, response) => void response.type("application/json").send(wireJson(await parts.status()))),
  );
  app.get(
    "/metrics",
    admitted((_request, response) => void response.type("text/plain; version=0.0.4; charset=utf-8").send(parts.metricsText())),
  );
  app.post("/stop", toControl, (_request, response) => void response.once("finish", parts.stop).json({ stopping: true }));
  app.post(
    "/ticket",
    admitted((request, response, { role }) => {
      const body: unknown = request.body;
      const wantsRead = typeof body === "object" && body !== null && "role" in body && body.role === "read";
      response.json({ ticket: access.browsers.createTicket(wantsRead ? "read" : role), role: wantsRead ? "read" : role });
    }),
  );
  app.post(
    "/logout",
    admitted((request, response) => {
      const cookie = readCookie(request.headers, cookieName(access));
      if (cookie !== undefined) access.browsers.close(cookie);
      response.clearCookie(cookieName(access), { path: "/" }).json({});
    }),
  );

  app.use((_request, response) => refuse(response, "WIRE_METHOD_UNKNOWN"));
  app.use((error: unknown, _request: Request, response: Response, next: NextFunction) => {
    if (response.headersSent) return next(error);
    const status = error instanceof Error && "status" in error ? error.status : 500;
    if (typeof status === "number" && status < 500) return refuse(response, "WIRE_BODY_REFUSED", bodyProblem(error));
    log.error(`a page failed: ${logText(error)}`);
    refuse(response, "WIRE_INTERNAL");
  });
  return app;
}

// One decision for HTTP and upgrade: who is this request, and may it go on? In: headers. Out: a role and how it was shown, or the code to refuse with.

import type { IncomingHttpHeaders } from "node:http";
import type { ErrorCode, Role } from "@refit-sidecar/protocol";
import { hostAllowed, originAllowed, type AllowRules } from "./allow.ts";
import type { Browsers } from "./browsers.ts";
import { bearerToken, roleOfToken, type Tokens } from "./tokens.ts";

export interface Access {
  readonly tokens: Tokens;
  readonly browsers: Browsers;
  /** Read for every request: allowlists may be reloaded. */
  readonly rules: () => AllowRules;
}

export type Admission =
  | { readonly admitted: true; readonly role: Role; readonly by: "token" | "browser" | "cookie" }
  | { readonly admitted: false; readonly code: ErrorCode };

const refused = (code: ErrorCode): Admission => ({ admitted: false, code });

/** A header that a client sent twice is no header. */
function single(value: string | string[] | undefined): string | undefined {
  return typeof value === "string" ? value : undefined;
}

/** Host and Origin alone: for pages that are open to whoever may see them. */
export function checkPlace(headers: IncomingHttpHeaders, access: Access): ErrorCode | null {
  const rules = access.rules();
  if (!hostAllowed(headers.host, rules)) return "WIRE_HOST_FORBIDDEN";
  const place = { host: headers.host, origin: headers.origin, secFetchSite: single(headers["sec-fetch-site"]) };
  return originAllowed(place, rules) ? null : "WIRE_ORIGIN_FORBIDDEN";
}

export function cookieName(access: Access): string {
  return `refit_sidecar_${access.rules().port}`;
}

export function readCookie(headers: IncomingHttpHeaders, name: string): string | undefined {
  for (const part of (headers.cookie ?? "").split(";")) {
    const [key, value] = part.trim().split("=", 2);
    if (key === name) return value;
  }
  return undefined;
}

function byToken(authorization: string, { tokens }: Access): Admission {
  const token = bearerToken(authorization);
  const role = token === null ? null : roleOfToken(token, tokens);
  return role === null ? refused("WIRE_UNAUTHORIZED") : { admitted: true, role, by: "token" };
}

/** For HTTP calls. Token first; then cookie with proof; a cookie alone is `by: "cookie"`, good for the page's own files only. */
export function admitRequest(headers: IncomingHttpHeaders, access: Access): Admission {
  const misplaced = checkPlace(headers, access);
  if (misplaced !== null) return refused(misplaced);
  if (headers.authorization !== undefined) return byToken(headers.authorization, access);
  const cookie = readCookie(headers, cookieName(access));
  const proven = access.browsers.roleOf(cookie, single(headers["x-refit-proof"]));
  if (proven !== null) return { admitted: true, role: proven, by: "browser" };
  const shown = access.browsers.roleOfCookie(cookie);
  return shown === null ? refused("WIRE_UNAUTHORIZED") : { admitted: true, role: shown, by: "cookie" };
}

/** Subprotocol that every client may name, and the prefix of the one that carries a browser's ticket. */
export const subprotocol = "refit.v1";
const ticketPrefix = "refit.ticket.";

/** For the upgrade: a token, or, from a page, a one-time ticket among the subprotocols. A cookie counts for nothing here. */
export function admitUpgrade(headers: IncomingHttpHeaders, access: Access): Admission {
  const misplaced = checkPlace(headers, access);
  if (misplaced !== null) return refused(misplaced);
  if (headers.authorization !== undefined) return byToken(headers.authorization, access);
  const offered = (single(headers["sec-websocket-protocol"]) ?? "").split(",").map((name) => name.trim());
  const ticket = offered.find((name) => name.startsWith(ticketPrefix));
  if (ticket === undefined) return refused("WIRE_UNAUTHORIZED");
  const role = access.browsers.redeemTicket(ticket.slice(ticketPrefix.length));
  return role === null ? refused("WIRE_TICKET_INVALID") : { admitted: true, role, by: "browser" };
}

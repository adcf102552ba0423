// Browser sessions. A link carries a one-time ticket; the page exchanges it (or a pasted token) for a cookie and a proof.
// Cookies are shared by all ports of a host, so a cookie alone opens nothing but the page's own files: calls need the proof too, which lives in the page's
// storage, where only the same origin (port included) can read it. A WebSocket, which can't carry headers, is opened with a fresh ticket.

import type { Role } from "@refit-sidecar/protocol";
import { limits, times } from "../limits.ts";
import { randomSecret, sameSecret } from "./tokens.ts";

interface Entry {
  readonly role: Role;
  readonly untilMs: number;
}
interface BrowserSession extends Entry {
  readonly proof: string;
}

export interface Browsers {
  /** One use, a few minutes. Old ones go when there are too many. */
  readonly createTicket: (role: Role) => string;
  readonly redeemTicket: (ticket: string) => Role | null;
  readonly open: (role: Role) => { readonly cookie: string; readonly proof: string };
  /** What a cookie alone shows: the page's files. */
  readonly roleOfCookie: (cookie: string | undefined) => Role | null;
  /** What cookie and proof together may call. */
  readonly roleOf: (cookie: string | undefined, proof: string | undefined) => Role | null;
  readonly close: (cookie: string) => void;
}

function prune(entries: Map<string, Entry>, keep: number, nowMs: number): void {
  for (const [key, { untilMs }] of entries) if (untilMs <= nowMs || entries.size > keep) entries.delete(key);
}

/** Secrets are map keys: 128 random bits that an attacker cannot approach byte by byte, because the map hashes them. */
export function createBrowsers(nowMs: () => number): Browsers {
  const tickets = new Map<string, Entry>();
  const sessions = new Map<string, BrowserSession>();
  const live = <Value extends Entry>(entries: Map<string, Value>, key: string | undefined): Value | null => {
    const entry = key === undefined ? undefined : entries.get(key);
    return entry !== undefined && entry.untilMs > nowMs() ? entry : null;
  };
  return {
    createTicket(role) {
      prune(tickets, limits.tickets - 1, nowMs());
      const ticket = randomSecret();
      tickets.set(ticket, { role, untilMs: nowMs() + times.ticketMs });
      return ticket;
    },
    redeemTicket(ticket) {
      const entry = live(tickets, ticket);
      tickets.delete(ticket);
      return entry?.role ?? null;
    },
    open(role) {
      prune(sessions, limits.browserSessions - 1, nowMs());
      const cookie = randomSecret();
      const proof = randomSecret();
      sessions.set(cookie, { role, proof, untilMs: nowMs() + times.browserSessionMs });
      return { cookie, proof };
    },
    roleOfCookie: (cookie) => live(sessions, cookie)?.role ?? null,
    roleOf(cookie, proof) {
      const session = live(sessions, cookie);
      return session !== null && proof !== undefined && sameSecret(proof, session.proof) ? session.role : null;
    },
    close: (cookie) => void sessions.delete(cookie),
  };
}

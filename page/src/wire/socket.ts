// Calls of the sidecar's own dashboard: one WebSocket session, opened with a one-time ticket. Connects again by itself; events come as of a UI's channel.

import type { WireMethod, WireParams, WireResult } from "@refit-sidecar/protocol";
import { RefitError, type Channel, type Client, type Connection, type Stamped } from "./client.ts";

interface Waiting {
  readonly resolve: (result: never) => void;
  readonly reject: (error: Error) => void;
}
interface Told {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Stamped;
  readonly result?: never;
  readonly error?: { readonly message: string; readonly data?: { readonly code: string; readonly remedy?: string } };
}

const topics = ["arrival", "catalog", "delta", "refit", "engine", "host", "live", "job"] as const;
const firstWaitMs = 500;
const longestWaitMs = 10_000;
const proofKey = "refit-proof";

export interface Socket extends Client {
  readonly channel: Channel;
  /** Connects, and stays so until the browser's session ends; then the log-in page is shown. */
  readonly start: () => Promise<void>;
}

export function createSocket(): Socket {
  const channel = new EventTarget();
  const pending = new Map<number, Waiting>();
  let socket: WebSocket | null = null;
  let connection: Connection = { state: "starting", text: "connecting" };
  let role = "read";
  let lastId = 0;
  const say = (name: string, detail: unknown) => channel.dispatchEvent(new CustomEvent(name, { detail }));

  function become(next: Connection): void {
    connection = next;
    say("refit.connection", next);
  }

  function call<M extends WireMethod>(method: M, params?: WireParams<M>): Promise<WireResult<M>> {
    return new Promise((resolve, reject) => {
      if (socket?.readyState !== WebSocket.OPEN) return reject(new RefitError("PAGE_OFFLINE", "The sidecar does not answer."));
      lastId += 1;
      pending.set(lastId, { resolve: resolve as Waiting["resolve"], reject });
      socket.send(JSON.stringify({ jsonrpc: "2.0", id: lastId, method, params: params ?? {} }));
    });
  }

  function received({ data }: MessageEvent): void {
    const message = JSON.parse(String(data)) as Told;
    if (message.method === "event") return void say("refit.event", message.params);
    if (message.method === "events.missed") return void say("reconnected", null);
    if (message.id === undefined) return;
    const waiting = pending.get(message.id);
    pending.delete(message.id);
    if (message.error)
      waiting?.reject(new RefitError(message.error.data?.code ?? "", `${message.error.message} ${message.error.data?.remedy ?? ""}`));
    else waiting?.resolve(message.result as never);
  }

  async function greet(): Promise<void> {
    const hello = await call("hello", { protocolVersions: [1], client: { name: "dashboard", version: "1" }, capabilities: ["events"] });
    role = hello.role;
    await call("events.subscribe", { topics: [...topics] });
    become({ state: "connected", text: role === "control" ? "connected" : "connected, read only" });
  }

  /** Resolves when the connection ends: true to try again, false when this browser has to log in. */
  async function connect(): Promise<boolean> {
    const headers = { "content-type": "application/json", "x-refit-proof": localStorage.getItem(proofKey) ?? "" };
    const reply = await fetch("/ticket", { method: "POST", headers, body: "{}" });
    if (reply.status === 401) {
      // The cookie alone shows this page, but only the browser that logged in may call.
      localStorage.removeItem(proofKey);
      location.replace("/login");
      return false;
    }
    const { ticket } = (await reply.json()) as { readonly ticket: string };
    const opened = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`, [
      "refit.v1",
      `refit.ticket.${ticket}`,
    ]);
    socket = opened;
    opened.addEventListener("message", received);
    await new Promise((resolve) => {
      opened.addEventListener("open", () => void greet().catch((error: Error) => become({ state: "lost", text: error.message })));
      opened.addEventListener("close", resolve);
    });
    for (const { reject } of pending.values()) reject(new RefitError("PAGE_OFFLINE", "The connection was lost."));
    pending.clear();
    become({ state: "lost", text: "connection lost, trying again" });
    return true;
  }

  return {
    channel: { addEventListener: (name, listener) => channel.addEventListener(name, listener as EventListener) },
    facts: async () => ({ connection, lastRun: null, events: [] }),
    read: call,
    change: call,
    ownServer: true,
    mayChange: () => role === "control",
    async start() {
      for (let waitMs = firstWaitMs, again = true; again; waitMs = Math.min(waitMs * 2, longestWaitMs)) {
        const before = socket;
        again = await connect().catch(() => true);
        if (socket !== before) waitMs = firstWaitMs / 2;
        if (again) await new Promise((resolve) => setTimeout(resolve, waitMs));
      }
    },
  };
}

// The HTTP upgrade: who may open a session, and how many. Refusals are plain HTTP answers, sent before a WebSocket exists.

import { STATUS_CODES, type IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { errorTable, failure, type ErrorCode, type Role } from "@refit-sidecar/protocol";
import { WebSocketServer, type WebSocket } from "ws";
import { admitUpgrade, isLoopback, subprotocol, type Access } from "./access/index.ts";
import { limits } from "./limits.ts";

export interface Upgrades {
  readonly handle: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
  readonly close: () => void;
}

export interface UpgradeParts {
  readonly access: Access;
  readonly mayConnect: () => ErrorCode | null;
  readonly refused: (code: ErrorCode) => void;
  readonly connected: (socket: WebSocket, role: Role, local: boolean) => void;
}

const statusOf: Partial<Record<ErrorCode, number>> = {
  WIRE_UNAUTHORIZED: 401,
  WIRE_TICKET_INVALID: 401,
  WIRE_ROLE: 403,
  WIRE_HOST_FORBIDDEN: 403,
  WIRE_ORIGIN_FORBIDDEN: 403,
  WIRE_BODY_REFUSED: 415,
  WIRE_CLIENTS_FULL: 503,
  WIRE_SHUTTING_DOWN: 503,
  WIRE_METHOD_UNKNOWN: 404,
  WIRE_BUSY: 503,
  SAMPLE_DEADLINE: 504,
  CATALOG_ENTRY_UNKNOWN: 404,
};

export function httpStatus(code: ErrorCode): number {
  return statusOf[code] ?? (errorTable[code].fault === "client" ? 400 : 500);
}

/** The body of every refused HTTP request: the same error object as on the wire. */
export function errorBody(code: ErrorCode, message?: string): string {
  return JSON.stringify({ error: failure(null, code, message)["error"] });
}

function refuse(socket: Duplex, code: ErrorCode): void {
  const status = httpStatus(code);
  const body = errorBody(code);
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${status === 401 ? "WWW-Authenticate: Bearer\r\n" : ""}\r\n${body}`,
  );
}

function webSocketServer(role: Role): WebSocketServer {
  return new WebSocketServer({
    noServer: true,
    clientTracking: false,
    // Latents do not compress, and a compressed message is a way to make a small thing large.
    perMessageDeflate: false,
    maxPayload: limits.messageBytes[role],
    maxFragments: limits.fragments[role],
    maxBufferedChunks: limits.bufferedChunks[role],
    handleProtocols: (offered) => (offered.has(subprotocol) ? subprotocol : false),
  });
}

export function createUpgrades({ access, mayConnect, refused, connected }: UpgradeParts): Upgrades {
  const servers: Readonly<Record<Role, WebSocketServer>> = { read: webSocketServer("read"), control: webSocketServer("control") };
  return {
    handle(request, socket, head) {
      // Until ws takes over, a reset connection is nobody's error but its own.
      const onError = (): void => void socket.destroy();
      socket.on("error", onError);
      const deny = (code: ErrorCode): void => {
        refused(code);
        refuse(socket, code);
      };
      if ((request.url ?? "").split("?", 1)[0] !== "/ws") return deny("WIRE_METHOD_UNKNOWN");
      const admission = admitUpgrade(request.headers, access);
      if (!admission.admitted) return deny(admission.code);
      const full = mayConnect();
      if (full !== null) return deny(full);
      servers[admission.role].handleUpgrade(request, socket, head, (client) => {
        socket.off("error", onError);
        connected(client, admission.role, isLoopback(request.socket.remoteAddress ?? ""));
      });
    },
    close() {
      for (const server of Object.values(servers)) server.close();
    },
  };
}

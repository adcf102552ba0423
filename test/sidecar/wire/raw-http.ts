// Requests as no well-behaved client sends them: every header is written as given.
import { connect } from "node:net";
import { cleanUp } from "./support.ts";

export interface RawReply {
  readonly status: number;
  readonly head: string;
  readonly body: string;
}

/** Sends lines over a fresh connection and returns the answer, or status 0 when the connection is cut without one. */
export function raw(port: number, lines: readonly string[], body = ""): Promise<RawReply> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    cleanUp(() => void socket.destroy());
    let text = "";
    const finish = (): void => {
      const end = text.indexOf("\r\n\r\n");
      resolve({
        status: Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0),
        head: end < 0 ? text : text.slice(0, end),
        body: end < 0 ? "" : text.slice(end + 4),
      });
    };
    socket.setEncoding("latin1");
    socket.on("data", (chunk: string) => {
      text += chunk;
      const length = Number(/\r\ncontent-length: (\d+)/i.exec(text)?.[1] ?? -1);
      const end = text.indexOf("\r\n\r\n");
      // An upgrade has no body and stays open.
      if (end >= 0 && (text.startsWith("HTTP/1.1 101") || (length >= 0 && text.length >= end + 4 + length))) {
        finish();
        socket.destroy();
      }
    });
    socket.on("error", finish);
    socket.on("close", finish);
    socket.write(`${lines.join("\r\n")}\r\n\r\n${body}`, "latin1");
  });
}

export function upgradeLines(host: string, more: readonly string[] = [], path = "/ws"): string[] {
  return [
    `GET ${path} HTTP/1.1`,
    `Host: ${host}`,
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ...more,
  ];
}

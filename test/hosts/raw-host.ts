// A host process driven by hand: bytes in, frames out. For what a well-behaved client never does.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { encodeFrame, FrameReader, hostProtocolVersion } from "../../protocol/src/index.ts";
import type { Frame, JsonObject } from "../../protocol/src/index.ts";
import type { HostCommand } from "../../sidecar/src/host/index.ts";

export interface RawHost {
  readonly pid: number;
  readonly write: (bytes: Uint8Array) => void;
  readonly send: (message: JsonObject) => void;
  /** The next frame; null when the host's stdout ended first. */
  readonly next: () => Promise<Frame | null>;
  readonly hello: () => Promise<Frame | null>;
  readonly endInput: () => void;
  readonly kill: () => void;
  readonly ended: Promise<{ code: number | null; signal: string | null }>;
}

export function startRawHost(command: HostCommand): RawHost {
  const child = spawn(command.command, [...command.args], { stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, ...command.env } });
  const reader = new FrameReader();
  const frames: Frame[] = [];
  const waiting: ((frame: Frame | null) => void)[] = [];
  let over = false;
  child.stdin.on("error", () => undefined);
  child.stdout.on("data", (chunk: Uint8Array) => {
    for (const frame of reader.push(chunk)) {
      const waiter = waiting.shift();
      if (waiter === undefined) frames.push(frame);
      else waiter(frame);
    }
  });
  child.stdout.on("end", () => {
    over = true;
    for (const waiter of waiting.splice(0)) waiter(null);
  });
  const ended = once(child, "close").then(([code, signal]: (number | string | null)[]) => ({
    code: code as number | null,
    signal: signal as string | null,
  }));
  const host: RawHost = {
    pid: child.pid ?? 0,
    write: (bytes) => void child.stdin.write(bytes),
    send: (message) => void child.stdin.write(encodeFrame(message)),
    next: () => {
      const frame = frames.shift();
      if (frame !== undefined) return Promise.resolve(frame);
      return over ? Promise.resolve(null) : new Promise((resolve) => waiting.push(resolve));
    },
    hello: () => {
      host.send({ jsonrpc: "2.0", id: 1, method: "hello", params: { protocolVersion: hostProtocolVersion } });
      return host.next();
    },
    endInput: () => void child.stdin.end(),
    kill: () => void child.kill("SIGKILL"),
    ended,
  };
  return host;
}

// One child process that carries many hosts, each on a channel: it is how hosts on other computers are reached. Its stdin is our end of its life, as with a host.

import { spawn } from "node:child_process";
import { gatewayMethods, gatewayNotifications, isKnownCode } from "@refit-sidecar/protocol";
import type { GatewayMethod, GatewayNotificationParams, GatewayParams, GatewayResult } from "@refit-sidecar/protocol";
import { Failure } from "../failure/index.ts";
import { ChannelReader, onChannel } from "./channels.ts";
import { HostConnection } from "./connection.ts";
import type { LogLevel } from "./connection.ts";
import { hostEnvironment } from "./environment.ts";
import { greet } from "./greeting.ts";
import { LogTail } from "./log-tail.ts";
import type { StartOptions } from "./start-host.ts";
import type { Host, HostCommand, HostExit } from "./types.ts";

export interface GatewayEvents {
  readonly onLog: (line: string, level: LogLevel) => void;
  readonly onDevices: (devices: GatewayNotificationParams<"devices">["devices"]) => void;
  readonly onFigures: (figures: GatewayNotificationParams<"figures">) => void;
  /** The operator's own variables (option `host-env`). */
  readonly environment: readonly string[];
}

export interface Gateway {
  /** Throws Failure with the gateway's own code, or HOST_GATEWAY when it has ended. */
  readonly call: <M extends GatewayMethod>(method: M, params: GatewayParams<M>) => Promise<GatewayResult<M>>;
  /** Starts a host in an actor. Throws Failure HOST_START_FAILED. */
  readonly open: (device: string, command: HostCommand, options?: StartOptions) => Promise<Host>;
  readonly gone: () => boolean;
  /** Settles once, with why, when the process has ended and every host with it. */
  readonly ended: Promise<string>;
  readonly close: () => Promise<void>;
}

interface Pending {
  readonly method: GatewayMethod;
  readonly resolve: (result: unknown) => void;
  readonly reject: (failure: Failure) => void;
}

interface Channel {
  readonly connection: HostConnection;
  readonly tail: LogTail;
  readonly end: (reason: string) => void;
}

/** From the request to end until the process is killed. */
const closeTimeoutMs = 10_000;

export function startGateway(command: HostCommand, events: GatewayEvents): Gateway {
  const child = spawn(command.command, [...command.args], {
    stdio: ["pipe", "pipe", "pipe"],
    windowsHide: true,
    // Ray's own settings are the cluster's business, not ours.
    env: { ...rayVariables(process.env), ...hostEnvironment(command.env, { named: events.environment }) },
  });
  const tail = new LogTail((line) => events.onLog(line, "debug"));
  const pending = new Map<number, Pending>();
  const channels = new Map<number, Channel>();
  let calls = 0;
  let lastChannel = 0;
  let over: string | null = null;
  /** Why it leaves the cluster, by its own word. */
  let left: string | null = null;

  const write = (channel: number, parts: readonly Uint8Array[]): void => {
    if (!child.stdin.writable) return;
    child.stdin.cork();
    for (const part of onChannel(channel, parts)) child.stdin.write(part);
    child.stdin.uncork();
  };
  const call: Gateway["call"] = async (method, params) => {
    if (over !== null) throw new Failure("HOST_GATEWAY", `the gateway has ended (${over})`, { method });
    calls += 1;
    const id = calls;
    const result = await new Promise<unknown>((resolve, reject) => {
      pending.set(id, { method, resolve, reject });
      write(0, [new TextEncoder().encode(JSON.stringify({ jsonrpc: "2.0", id, method, params }))]);
    });
    // parse of a method's own schema gives that method's result; the lookup hides it from TypeScript.
    return gatewayMethods[method].result.parse(result) as GatewayResult<typeof method>;
  };

  let control: Uint8Array[] = [];
  const reader = new ChannelReader((channel, bytes, isLast) => {
    if (channel > 0) return channels.get(channel)?.connection.receive(bytes);
    control.push(bytes.slice());
    if (!isLast) return;
    const message = JSON.parse(Buffer.concat(control).toString("utf8")) as Record<string, unknown>;
    control = [];
    hear(message);
  });

  function hear({ id, method, params, result, error }: Record<string, unknown>): void {
    if (typeof method === "string") return told(method, params);
    const waiting = pending.get(Number(id));
    pending.delete(Number(id));
    if (error === undefined) return waiting?.resolve(result);
    const { message, code } = error as { message?: unknown; code?: unknown };
    const known = typeof code === "string" && isKnownCode(code) ? code : "HOST_GATEWAY";
    waiting?.reject(new Failure(known, typeof message === "string" ? message : "the gateway refused a call", {}));
  }

  function told(method: string, params: unknown): void {
    if (method === "devices") events.onDevices(gatewayNotifications.devices.parse(params).devices);
    if (method === "left") left = gatewayNotifications.left.parse(params).reason;
    if (method === "figures") events.onFigures(gatewayNotifications.figures.parse(params));
    if (method === "line") {
      const { channel, text } = gatewayNotifications.line.parse(params);
      channels.get(channel)?.tail.push(Buffer.from(`${text}\n`));
    }
    if (method === "ended") {
      const { channel, reason } = gatewayNotifications.ended.parse(params);
      channels.get(channel)?.end(reason);
    }
  }

  child.stdin.on("error", () => undefined);
  child.stdout.on("data", (chunk: Uint8Array) => {
    try {
      reader.push(chunk);
    } catch (error) {
      over ??= `it wrote what is no message (${error instanceof Error ? error.message : String(error)})`;
      child.kill("SIGKILL");
    }
  });
  child.stderr.on("data", (chunk: Uint8Array) => tail.push(chunk));
  const ended = new Promise<string>((resolve) => {
    let spawnError: Error | null = null;
    const finish = (code: number | null, signal: string | null): void => {
      tail.end();
      const why = over ?? spawnError?.message ?? (signal === null ? `exit code ${code}` : `signal ${signal}`);
      over = left ?? (tail.lines.length === 0 ? why : `${why}; its last log line: ${tail.lines.at(-1)}`);
      for (const { end } of [...channels.values()]) end(left ?? `the gateway ended (${why})`);
      for (const { reject } of pending.values()) reject(new Failure("HOST_GATEWAY", `the gateway ended (${over})`, { log: tail.lines }));
      pending.clear();
      resolve(over);
    };
    child.on("error", (error) => {
      spawnError = error;
      if (child.pid === undefined) finish(null, null);
    });
    child.on("close", finish);
  });

  async function open(device: string, host: HostCommand, options: StartOptions = {}): Promise<Host> {
    lastChannel += 1;
    const channel = lastChannel;
    let endedBy: string | null = null;
    let settle: (exit: HostExit) => void = () => undefined;
    const hostEnded = new Promise<HostExit>((resolve) => (settle = resolve));
    const log = new LogTail((line) => options.onLog?.(line, "debug"));
    const end = (reason: string): void => {
      if (!channels.delete(channel)) return;
      endedBy ??= reason;
      connection.lose(endedBy);
      log.end();
      settle({ code: null, signal: null, reason: endedBy, log: log.lines });
    };
    const kill = (reason: string): void => {
      endedBy ??= reason;
      call("close", { channel }).catch(() => undefined);
      // Whatever the actor still says is for nobody.
      end(reason);
    };
    const connection = new HostConnection({
      write: (parts) => write(channel, parts),
      onBroken: kill,
      onLog: (level, message) => options.onLog?.(message, level),
      onServing: (serving) => options.onServing?.(serving),
    });
    channels.set(channel, { connection, tail: log, end });
    const pid = await call("open", { channel, device, command: [host.command, ...host.args], env: { ...host.env } }).then(
      (opened) => opened.pid,
      (cause: unknown) => {
        end("it was not started");
        throw new Failure(
          "HOST_START_FAILED",
          cause instanceof Error ? cause.message : String(cause),
          { kind: host.kind, device },
          { cause },
        );
      },
    );
    return greet({
      kind: host.kind,
      pid,
      connection,
      ended: hostEnded,
      log: () => log.lines,
      gone: () => endedBy !== null || connection.lost,
      kill,
      finish: () => undefined,
      // Segments lie on this computer.
      segmentFolder: null,
      helloTimeoutMs: options.helloTimeoutMs,
      closeTimeoutMs: options.closeTimeoutMs,
    });
  }

  return {
    call,
    open,
    gone: () => over !== null,
    ended,
    async close() {
      const timer = setTimeout(() => child.kill("SIGKILL"), closeTimeoutMs);
      child.stdin.end();
      await ended;
      clearTimeout(timer);
    },
  };
}

const rayVariables = (given: Readonly<Record<string, string | undefined>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(given).filter((entry): entry is [string, string] => /^(REFIT_)?RAY_/.test(entry[0]) && entry[1] !== undefined),
  );

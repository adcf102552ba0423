import { spawn } from "node:child_process";
import type { HostNotificationParams } from "@refit-sidecar/protocol";
import { hostEnvironment } from "./environment.ts";
import { HostConnection } from "./connection.ts";
import type { LogLevel } from "./connection.ts";
import { greet } from "./greeting.ts";
import { LogTail } from "./log-tail.ts";
import type { Host, HostCommand, HostExit } from "./types.ts";

export interface StartOptions {
  /** A line of the host's log: what it says itself, at its own level, and what its libraries print (debug). */
  readonly onLog?: (line: string, level: LogLevel) => void;
  /** How one of its engines serves has changed. */
  readonly onServing?: (serving: HostNotificationParams<"serving">) => void;
  /** From spawn to the answer to hello; a Python host imports its libraries in this time. */
  readonly helloTimeoutMs?: number;
  /** From the request to end until the process is killed. */
  readonly closeTimeoutMs?: number;
  /** The operator's own variables (option `host-env`); nothing: what REFIT_HOST_ENV says. */
  readonly environment?: readonly string[];
  /** Where clients' segments lie; null or nothing: tensors go through the pipe. */
  readonly segmentFolder?: string | null;
}

/** From a host's exit until its pipes are given up; what it wrote before arrives in milliseconds. */
const pipesEndMs = 1_000;

/**
 * Starts a host process and greets it. The child's stdin is our end of its life: when this process dies, however it dies, the pipe closes and the host ends.
 * Throws Failure HOST_START_FAILED with the last lines of its log.
 */
export async function startHost(command: HostCommand, options: StartOptions = {}): Promise<Host> {
  const child = spawn(command.command, [...command.args], {
    stdio: ["pipe", "pipe", "pipe"],
    windowsHide: true,
    env: hostEnvironment(command.env, { named: options.environment }),
  });
  const tail = new LogTail((line) => options.onLog?.(line, "debug"));
  let reason: string | null = null;
  const kill = (why: string): void => {
    reason ??= why;
    // A host that hangs in a native call does not see SIGTERM.
    child.kill("SIGKILL");
  };
  const connection = new HostConnection({
    write: (parts) => {
      if (!child.stdin.writable) return;
      child.stdin.cork();
      for (const part of parts) child.stdin.write(part);
      child.stdin.uncork();
    },
    onBroken: kill,
    onLog: (level, message) => options.onLog?.(message, level),
    onServing: (serving) => options.onServing?.(serving),
  });
  // A broken pipe shows as the child's exit, which says more than EPIPE.
  child.stdin.on("error", () => undefined);
  child.stdout.on("data", (chunk: Uint8Array) => connection.receive(chunk));
  child.stderr.on("data", (chunk: Uint8Array) => tail.push(chunk));

  const ended = new Promise<HostExit>((resolve) => {
    let spawnError: Error | null = null;
    const finish = (code: number | null, signal: string | null): void => {
      tail.end();
      const why = reason ?? spawnError?.message ?? null;
      connection.lose(why ?? (signal === null ? `exit code ${code}` : `signal ${signal}`));
      resolve({ code, signal, reason: why, log: tail.lines });
    };
    child.on("error", (error) => {
      spawnError = error;
      if (child.pid === undefined) finish(null, null);
    });
    child.on("close", finish);
    // Its last log lines are worth waiting for, but not for ever: a grandchild may hold the pipes open, and Wine sometimes loses their end.
    child.once("exit", () => {
      const timer = setTimeout(() => {
        for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
      }, pipesEndMs);
      child.once("close", () => clearTimeout(timer));
    });
  });

  return greet({
    kind: command.kind,
    pid: child.pid ?? 0,
    connection,
    ended,
    log: () => tail.lines,
    gone: () => reason !== null || connection.lost,
    kill,
    finish: () => child.stdin.end(),
    segmentFolder: options.segmentFolder ?? null,
    helloTimeoutMs: options.helloTimeoutMs,
    closeTimeoutMs: options.closeTimeoutMs,
  });
}

// The first words with a host, however its bytes travel, and the host as the rest of the sidecar sees it.

import { hostProtocolVersion } from "@refit-sidecar/protocol";
import { Failure } from "../failure/index.ts";
import type { HostConnection } from "./connection.ts";
import type { Host, HostExit } from "./types.ts";

export interface GreetedParts {
  readonly kind: string;
  readonly pid: number;
  readonly connection: HostConnection;
  readonly ended: Promise<HostExit>;
  readonly log: () => readonly string[];
  /** It is being ended: nothing more is expected of it. */
  readonly gone: () => boolean;
  readonly kill: (reason: string) => void;
  /** Nothing more will be said to it. */
  readonly finish: () => void;
  readonly segmentFolder: string | null;
  readonly helloTimeoutMs?: number | undefined;
  readonly closeTimeoutMs?: number | undefined;
}

/** Throws Failure HOST_START_FAILED with the last line of its log. */
export async function greet(parts: GreetedParts): Promise<Host> {
  const { kind, pid, connection, ended, log, gone, kill, finish, segmentFolder } = parts;
  let about: Host["about"];
  try {
    about = await connection.call(
      "hello",
      { protocolVersion: hostProtocolVersion, ...(segmentFolder ? { segments: segmentFolder } : {}) },
      { timeoutMs: parts.helloTimeoutMs ?? 120_000 },
    );
  } catch (cause) {
    kill("it did not say hello");
    const exit = await ended;
    const line = exit.log.at(-1);
    throw new Failure(
      "HOST_START_FAILED",
      `expected engine host ${kind} to start and say hello; ${cause instanceof Error ? cause.message : String(cause)}${line === undefined ? "" : ` Its last log line: ${line}`}`,
      { kind, code: exit.code, log: exit.log },
      { cause },
    );
  }
  const call: Host["call"] = (method, params, options) => connection.call(method, params, options);
  return {
    kind,
    pid,
    about,
    call,
    gone,
    idleMs: () => connection.idleMs,
    ended,
    log,
    kill,
    async close() {
      const timer = setTimeout(() => kill("it did not end when asked"), parts.closeTimeoutMs ?? 5_000);
      call("shutdown", {})
        .catch(() => undefined)
        .finally(finish);
      const exit = await ended;
      clearTimeout(timer);
      return exit;
    },
  };
}

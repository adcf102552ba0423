// Exit codes and how a failure is shown on a terminal. Documented in docs/operate/cli.md.

import { SafetensorsError } from "@refit-sidecar/native";
import { Failure, isSystemError, systemText, unexpectedText } from "../failure/index.ts";
import type { FailureCode } from "../failure/index.ts";

export const exitCode = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const;

/** Codes that mean "the caller's input is wrong" rather than "something broke here". */
const usagePrefixes = ["OPTIONS_", "CLI_"];
/** Of those prefixes, what no other argument would have changed. */
const failedAllTheSame: ReadonlySet<FailureCode> = new Set([
  "CLI_OUTPUT_LOST",
  "CLI_STATE_MISSING",
  "CLI_STOP_LATE",
  "CLI_STOP_NO_ANSWER",
  "CLI_STOP_REFUSED",
  "CLI_UPDATE_DATA",
  "CLI_UPDATE_FAILED",
  "CLI_UPDATE_PYTHON",
  "CLI_UPDATE_RUNNING",
]);

const interruptedBy: ReadonlySet<FailureCode> = new Set(["CLI_INTERRUPTED", "INSTALL_INTERRUPTED"]);

export function exitCodeOf(error: unknown): number {
  if (error instanceof Failure && interruptedBy.has(error.code)) return exitCode.interrupted;
  if (!(error instanceof Failure) || failedAllTheSame.has(error.code)) return exitCode.failed;
  return usagePrefixes.some((prefix) => error.code.startsWith(prefix)) ? exitCode.usage : exitCode.failed;
}

/** Code and text of anything that was thrown: a failure's own, the file system's in words, and a request to report what nobody expected. */
function described(error: unknown): { readonly code: string; readonly message: string } {
  if (error instanceof Failure || error instanceof SafetensorsError) return { code: error.code, message: error.message };
  if (isSystemError(error)) return { code: `SYSTEM_${error.code ?? "ERROR"}`, message: systemText(error, error.path ?? null) };
  // Errors of the wire and of the host protocol carry a declared code, which is upper-case and ours.
  if (error instanceof Error && "code" in error && typeof error.code === "string" && !error.code.startsWith("ERR_"))
    return { code: error.code, message: error.message };
  return { code: "INTERNAL", message: unexpectedText(error) };
}

/** Text and code of anything that was thrown, as every message of the command line ends. The codes' reference: docs/operate/errors.md. */
export function codedText(error: unknown): string {
  const { code, message } = described(error);
  return `${message} [${code}]`;
}

/** One line for people, or one JSON object with code and text. */
export function failureText(error: unknown, json: boolean): string {
  return json ? JSON.stringify({ ok: false, error: described(error) }) : `refit-sidecar: ${codedText(error)}`;
}

/** Says what a command failed with: with `json` on stdout for programs, else on stderr. Answers its exit code. */
export function told(error: unknown, json = false): number {
  console[json ? "log" : "error"](failureText(error, json));
  return exitCodeOf(error);
}

/**
 * Aborts when the terminal, or whoever started the command, ends it: what was begun is taken away before the process goes. A second signal ends it at once.
 * `release` lets signals do what they do without a command.
 */
export function untilInterrupted(): { readonly signal: AbortSignal; readonly release: () => void } {
  const interrupted = new AbortController();
  const stop = (): void => interrupted.abort(new Failure("CLI_INTERRUPTED", "interrupted; nothing was kept", {}));
  for (const name of endingSignals) process.once(name, stop);
  return {
    signal: interrupted.signal,
    release: () => {
      for (const name of endingSignals) process.removeListener(name, stop);
    },
  };
}

const endingSignals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

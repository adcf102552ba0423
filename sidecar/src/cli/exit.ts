// Exit codes and how a failure is shown on a terminal. Documented in docs/cli.md.

import { Failure } from "../failure/index.ts";

export const exitCode = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const;

/** Codes that mean "the caller's input is wrong" rather than "something broke here". */
const usagePrefixes = ["OPTIONS_", "CLI_"];

export function exitCodeOf(error: unknown): number {
  if (error instanceof Failure && usagePrefixes.some((prefix) => error.code.startsWith(prefix))) return exitCode.usage;
  return exitCode.failed;
}

/** One line for people, or one JSON object with code and evidence. */
export function failureText(error: unknown, json: boolean): string {
  const coded = error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "INTERNAL";
  const message = error instanceof Error ? error.message : String(error);
  if (json) return JSON.stringify({ ok: false, error: { code: coded, message } });
  return `refit-sidecar: ${message} [${coded}]`;
}

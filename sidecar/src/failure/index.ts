// One error class for everything that can go wrong on purpose. In: code, evidence, cause. Out: a Failure with one clear text.
// A text says what was expected, what came and what to do; it never holds a token, a shared-memory name or (on the wire) a path.

export type { FailureCode } from "./codes.ts";
import type { FailureCode } from "./codes.ts";

export class Failure extends Error {
  readonly code: FailureCode;
  readonly evidence: Readonly<Record<string, unknown>>;
  override readonly name = "Failure";
  constructor(code: FailureCode, message: string, evidence: Readonly<Record<string, unknown>> = {}, options: { cause?: unknown } = {}) {
    super(message, options);
    this.code = code;
    this.evidence = evidence;
  }
}

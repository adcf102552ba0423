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

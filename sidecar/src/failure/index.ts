// One error class for everything that can go wrong on purpose. In: code, evidence, cause. Out: a Failure with one clear text.
// A text says what was expected, what came and what to do; it never holds a token, a shared-memory name or (on the wire) a path.

export { codeFrom, type FailureCode } from "./codes.ts";
export { Failure } from "./failure.ts";
export { asFailure, isSystemError, systemText, systemTexts, unexpectedText } from "./unexpected.ts";

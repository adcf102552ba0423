// STAGE_REASON codes. A code stands in one of the tables of the protocol (wire, hosts, or those that stay inside: protocol/src/failures), with a test that provokes it.
import { isKnownCode, type KnownCode } from "@refit-sidecar/protocol";

export type FailureCode = KnownCode;

/** A code that came from another process or a file, where it is one of ours; it may be of another version. */
export function codeFrom(text: unknown, otherwise: FailureCode): FailureCode {
  return typeof text === "string" && isKnownCode(text) ? text : otherwise;
}

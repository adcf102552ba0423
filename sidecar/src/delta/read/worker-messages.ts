// What passes between the delta service and its worker thread. Errors cross as plain data: classes do not survive the trip.

import { Failure } from "../../failure/index.ts";
import type { DeltaRequest, ReadyDelta } from "../types.ts";

export type ToWorker = { readonly type: "make"; readonly id: number; readonly request: DeltaRequest } | { readonly type: "cancel"; readonly id: number };

export type FromWorker =
  | { readonly id: number; readonly ready: ReadyDelta }
  | { readonly id: number; readonly failure: { readonly code: string; readonly message: string; readonly evidence: Readonly<Record<string, unknown>> } };

export function encodeFailure(id: number, error: unknown): FromWorker {
  if (error instanceof Failure) return { id, failure: { code: error.code, message: error.message, evidence: error.evidence } };
  const aborted = error instanceof Error && error.name === "AbortError";
  const reason = error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "unknown";
  const text = aborted ? "the delta was cancelled" : `expected to write the delta, the attempt failed (${reason}); check free space and rights of the data folder`;
  return { id, failure: { code: aborted ? "DELTA_CANCELLED" : "DELTA_WRITE_FAILED", message: text, evidence: { reason } } };
}

export const decodeFailure = (message: Extract<FromWorker, { failure: unknown }>): Failure => new Failure(message.failure.code, message.failure.message, message.failure.evidence);

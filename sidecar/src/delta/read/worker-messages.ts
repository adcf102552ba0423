// What passes between the delta service and its worker thread. Errors cross as plain data: classes do not survive the trip.

import { SafetensorsError } from "@refit-sidecar/native";
import { asFailure, Failure, isSystemError, systemText, type FailureCode } from "../../failure/index.ts";
import type { DeltaRequest, ReadyDelta } from "../types.ts";

export type ToWorker =
  { readonly type: "make"; readonly id: number; readonly request: DeltaRequest } | { readonly type: "cancel"; readonly id: number };

export type FromWorker =
  | { readonly id: number; readonly ready: ReadyDelta }
  | {
      readonly id: number;
      readonly failure: { readonly code: FailureCode; readonly message: string; readonly evidence: Readonly<Record<string, unknown>> };
    };

export function encodeFailure(id: number, error: unknown): FromWorker {
  if (error instanceof Failure) return { id, failure: { code: error.code, message: error.message, evidence: error.evidence } };
  if (error instanceof SafetensorsError)
    return { id, failure: { code: "DELTA_ADAPTER_UNREADABLE", message: error.message, evidence: { reason: error.code } } };
  if (error instanceof Error && error.name === "AbortError")
    return { id, failure: { code: "DELTA_CANCELLED", message: "the delta was cancelled", evidence: {} } };
  // Files are read through checked readers, which name their own errors: what the system says here is about writing.
  if (isSystemError(error))
    return {
      id,
      failure: {
        code: "DELTA_WRITE_FAILED",
        message: `expected to write the delta into the data folder: ${systemText(error, null)}`,
        evidence: { reason: error.code },
      },
    };
  const { code, message, evidence } = asFailure(error, "DELTA_UNEXPECTED");
  return { id, failure: { code, message, evidence } };
}

export const decodeFailure = (message: Extract<FromWorker, { failure: unknown }>): Failure =>
  new Failure(message.failure.code, message.failure.message, message.failure.evidence);

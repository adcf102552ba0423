import { SafetensorsError } from "@refit-sidecar/native";
import { isHostErrorCode, type HostErrorCode } from "@refit-sidecar/protocol";
import { Failure } from "../../src/failure/index.ts";

/** A failure that has a row in the host protocol's error table. */
export function hostFailure(
  code: HostErrorCode,
  message: string,
  evidence: Readonly<Record<string, unknown>> = {},
  cause?: unknown,
): Failure {
  return new Failure(code, message, evidence, cause === undefined ? {} : { cause });
}

/** What the checkpoint reader's failures are to the sidecar. */
const storageCodes: Readonly<Record<string, HostErrorCode>> = {
  STORAGE_FILE_CHANGED: "HOST_FILE_CHANGED",
  STORAGE_INVALID: "HOST_FILE_INVALID",
  STORAGE_PARAMETER_UNKNOWN: "HOST_PARAMETER_UNKNOWN",
  STORAGE_SHAPE_MISMATCH: "HOST_SHAPE_MISMATCH",
};

/** What a reader's or the system's error means to the sidecar. Anything unforeseen is HOST_INTERNAL: never blamed on the caller. */
export function asHostFailure(error: unknown): Failure {
  if (error instanceof Failure && isHostErrorCode(error.code)) return error;
  if (error instanceof Failure && Object.hasOwn(storageCodes, error.code))
    return hostFailure(storageCodes[error.code] ?? "HOST_FILE_INVALID", error.message, error.evidence, error);
  if (error instanceof SafetensorsError) return fileFailure(error);
  if (error instanceof Error && error.name === "AbortError")
    return hostFailure("HOST_CANCELLED", "cancelled; nothing live was changed", {}, error);
  if (error instanceof RangeError && /array buffer allocation|invalid typed array length/i.test(error.message)) {
    return hostFailure(
      "HOST_OUT_OF_MEMORY",
      "expected enough memory for the engine's weights; unload another engine or choose a smaller precision",
      {},
      error,
    );
  }
  return hostFailure(
    "HOST_INTERNAL",
    `unexpected failure in the engine host: ${error instanceof Error ? error.message : String(error)}`,
    {},
    error,
  );
}

function fileFailure(error: SafetensorsError): Failure {
  const evidence = { file: error.file, tensor: error.tensor, reader: error.code };
  switch (error.code) {
    case "FILE_CHANGED":
    case "TRUNCATED":
      return hostFailure("HOST_FILE_CHANGED", `${error.message}. Wait until the file is settled and plan again.`, evidence, error);
    case "UNREADABLE":
    case "NOT_A_REGULAR_FILE":
      return hostFailure("HOST_FILE_MISSING", `${error.message}. Put the file back, or choose another.`, evidence, error);
    default:
      return hostFailure("HOST_FILE_INVALID", error.message, evidence, error);
  }
}

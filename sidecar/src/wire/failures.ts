// From any thrown value to what a client may see. In: errors of every stage. Out: a declared code, a text without paths, and for the log a text without secrets.

import {
  errorTable,
  failure,
  FrameError,
  isErrorCode,
  ProtocolError,
  type ErrorCode,
  type JsonObject,
  type RequestId,
} from "@refit-sidecar/protocol";
import { Failure } from "../failure/index.ts";

export interface WireFailure {
  readonly code: ErrorCode;
  readonly message: string;
  /** The stage's own code, where it is not declared for the wire. */
  readonly reason: string | null;
}

/** Codes of other stages that say something more exact to a client than their stage alone. */
const exactCodes: ReadonlyMap<string, ErrorCode> = new Map([
  ["CATALOG_CLOSING", "WIRE_SHUTTING_DOWN"],
  ["CATALOG_FOLDER", "CATALOG_FOLDER_REFUSED"],
  ["DELTA_CANCELLED", "WIRE_CANCELLED"],
  ["DELTA_OTHER_STRUCTURE", "PLAN_STACK_REFUSED"],
  ["DELTA_UNEXPECTED", "WIRE_INTERNAL"],
  ["ENGINE_HOST", "ENGINE_UNSUPPORTED"],
  ["HOST_CANCELLED", "WIRE_CANCELLED"],
  ["HOST_FILE_CHANGED", "CATALOG_FAILED"],
  ["HOST_FILE_INVALID", "CATALOG_FAILED"],
  ["HOST_FILE_MISSING", "CATALOG_FAILED"],
  ["HOST_GRAPH_INVALID", "ENGINE_UNSUPPORTED"],
  ["HOST_INPUT_INVALID", "STEP_INPUT_INVALID"],
  ["HOST_NON_FINITE", "REFIT_FAILED"],
  ["HOST_NO_GRAPH", "ENGINE_UNSUPPORTED"],
  ["HOST_OUT_OF_MEMORY", "ENGINE_OUT_OF_MEMORY"],
  ["HOST_PRECISION_UNSUPPORTED", "ENGINE_UNSUPPORTED"],
  ["HOST_SEGMENT_REFUSED", "WIRE_SEGMENT_FAILED"],
  ["HOST_SEGMENT_SHORT", "WIRE_SEGMENT_SHORT"],
  ["HOST_SEGMENT_STALE", "WIRE_SEGMENT_STALE"],
  ["HOST_SHAPE_MISMATCH", "REFIT_FAILED"],
  ["HOST_STEP_FAILED", "STEP_FAILED"],
  ["REFIT_NEEDS_RECOMPILE", "ENGINE_UNSUPPORTED"],
  ["REFIT_NO_ROOM", "ENGINE_OUT_OF_MEMORY"],
  ["STEP_QUEUE_FULL", "WIRE_BUSY"],
  ["STEP_RUN_CLOSED", "WIRE_LEASE_UNKNOWN"],
]);

/** Which declared code stands for an undeclared one of a stage. Everything else is WIRE_INTERNAL. */
const stageCodes: readonly (readonly [prefix: string, code: ErrorCode])[] = [
  ["ARRIVALS_", "CATALOG_FAILED"],
  ["CATALOG_", "CATALOG_FAILED"],
  ["READ_", "CATALOG_FAILED"],
  ["STORAGE_", "CATALOG_FAILED"],
  ["DELTA_", "DELTA_FAILED"],
  ["TERMS_", "DELTA_FAILED"],
  ["PLAN_", "PLAN_STACK_REFUSED"],
  ["REFIT_", "REFIT_FAILED"],
  ["STEP_", "STEP_FAILED"],
  ["ENGINE_", "ENGINE_FAILED"],
  ["HOST_", "ENGINE_FAILED"],
  ["JOB_", "ENGINE_FAILED"],
];

/** The start of an absolute path (POSIX, drive, UNC, home, file URL) in running text. */
const pathStart = /(?:^|[\s"'`([{=:,<>])(?:~?[\\/][^\s\\/]|[A-Za-z]:[\\/]|\\\\)|file:/;

export function holdsPath(text: string): boolean {
  return pathStart.test(text);
}

/** For logs: of everything from a path's start to the line's last separator only "…/" stays (paths may hold spaces, so it rather takes too much). */
export function withoutPaths(text: string): string {
  return text
    .split("\n")
    .map((line) => {
      const start = pathStart.exec(line);
      if (start === null) return line;
      const end = Math.max(line.lastIndexOf("/"), line.lastIndexOf("\\"));
      return `${line.slice(0, start.index + (/^[\s"'`([{=:,<>]/.test(start[0]) ? 1 : 0))}…/${line.slice(end + 1)}`;
    })
    .join("\n");
}

/** Fields that hold running text of other stages, wherever they are in a result or an event. */
const textFields: ReadonlySet<string> = new Set(["message", "reason", "text", "title"]);

/** JSON of a message to a client: no text in it holds a path, whatever a stage wrote. (The paths in a hello reply are fields of their own.) */
export function wireJson(message: unknown): string {
  return JSON.stringify(message, (key, value: unknown) => (typeof value === "string" && textFields.has(key) ? withoutPaths(value) : value));
}

function shown(code: ErrorCode, message: string): string {
  return message.length === 0 || holdsPath(message) ? errorTable[code].summary : message.slice(0, 2000);
}

export function toWireFailure(error: unknown): WireFailure {
  if (error instanceof ProtocolError || error instanceof FrameError) return { code: error.code, message: error.message, reason: null };
  if (error instanceof Failure) {
    if (isErrorCode(error.code)) return { code: error.code, message: shown(error.code, error.message), reason: null };
    const code = exactCodes.get(error.code) ?? stageCodes.find(([prefix]) => error.code.startsWith(prefix))?.[1] ?? "WIRE_INTERNAL";
    const reason = /^[A-Z0-9_]{1,64}$/.test(error.code) ? error.code : null;
    return {
      code,
      message: code === "WIRE_INTERNAL" && !error.code.endsWith("_UNEXPECTED") ? errorTable[code].summary : shown(code, error.message),
      reason,
    };
  }
  if (error instanceof Error && error.name === "AbortError")
    return { code: "WIRE_CANCELLED", message: errorTable.WIRE_CANCELLED.summary, reason: null };
  return { code: "WIRE_INTERNAL", message: errorTable.WIRE_INTERNAL.summary, reason: null };
}

/** The error reply to a call, or to something that was none (id null). */
export function failureReply(id: RequestId | null, { code, message, reason }: WireFailure): JsonObject {
  return failure(id, code, message, reason === null ? {} : { reason });
}

/** What the log may hold of an unexpected error: name, text and our own function names, no paths. */
export function logText(error: unknown): string {
  if (!(error instanceof Error)) return withoutPaths(String(error));
  return withoutPaths(
    [
      `${error.name}: ${error.message}`,
      ...(error.stack ?? "")
        .split("\n")
        .filter((line) => line.startsWith("    at "))
        .slice(0, 6),
    ].join("\n"),
  );
}

// JSON-RPC 2.0 envelopes. In: a JSON object. Out: one of four checked shapes, and builders for them. Batches are not spoken.

import { errorTable, ProtocolError, type ErrorCode } from "./errors.ts";
import type { JsonObject } from "./frame.ts";

export type RequestId = number | string;

export interface RpcRequest {
  readonly kind: "request";
  readonly id: RequestId;
  readonly method: string;
  readonly params: JsonObject;
}
export interface RpcNotification {
  readonly kind: "notification";
  readonly method: string;
  readonly params: JsonObject;
}
export interface RpcSuccess {
  readonly kind: "success";
  readonly id: RequestId;
  readonly result: unknown;
}
export interface RpcFailure {
  readonly kind: "failure";
  /** null when the other side could not read the id of what it refuses. */
  readonly id: RequestId | null;
  readonly error: RpcError;
}
export type RpcMessage = RpcRequest | RpcNotification | RpcSuccess | RpcFailure;

export interface RpcError {
  readonly code: number;
  readonly message: string;
  readonly data?: { readonly code: string; readonly [field: string]: unknown };
}

/** Long enough for a UUID with a prefix. */
const maxIdLength = 64;
const maxMethodLength = 64;

export function isRequestId(value: unknown): value is RequestId {
  return (
    (typeof value === "number" && Number.isSafeInteger(value)) ||
    (typeof value === "string" && value.length > 0 && value.length <= maxIdLength)
  );
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function bad(what: string): never {
  throw new ProtocolError("RPC_INVALID", `expected ${what}`);
}

function checkError(value: unknown): RpcError {
  if (!isObject(value) || typeof value["code"] !== "number" || typeof value["message"] !== "string")
    bad("an error with a numeric code and a message");
  const { code, message, data } = value;
  return { code, message, ...(isObject(data) && typeof data["code"] === "string" ? { data: { ...data, code: data["code"] } } : {}) };
}

/** A text message as one JSON object. Throws WIRE_JSON_INVALID. */
export function parseJsonObject(text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new ProtocolError("WIRE_JSON_INVALID", "expected the message to be JSON");
  }
  if (!isObject(value)) throw new ProtocolError("WIRE_JSON_INVALID", "expected one JSON object per message; batches are not spoken here");
  return value;
}

/** Sorts a JSON object into one of the four shapes. Throws RPC_INVALID. Params that are absent count as `{}`; positional params are refused. */
export function parseRpc(message: JsonObject): RpcMessage {
  const { jsonrpc, id, method, params, result, error } = message;
  if (jsonrpc !== "2.0") bad('`"jsonrpc": "2.0"`');
  if (method !== undefined) {
    if (typeof method !== "string" || method.length === 0 || method.length > maxMethodLength)
      bad(`a method name of at most ${maxMethodLength} characters`);
    if (params !== undefined && !isObject(params)) bad("params to be an object");
    if (id === undefined) return { kind: "notification", method, params: params ?? {} };
    if (!isRequestId(id)) bad(`an id that is a whole number or a string of at most ${maxIdLength} characters`);
    return { kind: "request", id, method, params: params ?? {} };
  }
  if (error !== undefined) {
    if (id !== null && !isRequestId(id)) bad("the id of the call that failed, or null");
    return { kind: "failure", id, error: checkError(error) };
  }
  if (result === undefined) bad("a method, a result or an error");
  if (!isRequestId(id)) bad("the id of the call that is answered");
  return { kind: "success", id, result };
}

export function request(id: RequestId, method: string, params: JsonObject): JsonObject {
  return { jsonrpc: "2.0", id, method, params };
}
export function notification(method: string, params: JsonObject): JsonObject {
  return { jsonrpc: "2.0", method, params };
}
export function success(id: RequestId, result: unknown): JsonObject {
  return { jsonrpc: "2.0", id, result };
}

/** An error reply with a declared code; `message` defaults to the table's summary. */
export function failure(
  id: RequestId | null,
  code: ErrorCode,
  message: string = errorTable[code].summary,
  evidence: JsonObject = {},
): JsonObject {
  const { rpc, fault, remedy } = errorTable[code];
  return { jsonrpc: "2.0", id, error: { code: rpc, message, data: { ...evidence, code, fault, remedy } } };
}

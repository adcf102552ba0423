// What the host's two threads say to each other. Buffers are transferred, never copied and never shared: a weight belongs to exactly one thread at a time.

import type { FrameTensor, HostErrorCode } from "@refit-sidecar/protocol";
import type { ParameterLayout } from "../refit-map.ts";
import type { HeldDtype } from "../weight-table.ts";

/** Parameter and its whole buffer, engine layout. */
export type NamedBuffer = readonly [parameter: string, buffer: Uint8Array<ArrayBuffer>];

export interface SessionOptions {
  /** Execution provider of ONNX Runtime; whatever it does not run falls to the CPU provider. */
  readonly provider: string;
  /** Threads inside one operator; 0 lets ONNX Runtime decide. */
  readonly threads: number;
}

/** An input of a graph that is a tensor. A text stands for a dimension of any size. */
export interface GraphInput {
  readonly name: string;
  readonly type: string;
  readonly shape: readonly (number | string)[];
}

/** A tensor ready for ONNX Runtime, in the type that the graph wants. */
export interface ReadyInput {
  readonly name: string;
  readonly type: "float32" | "float16" | "int64" | "uint8";
  readonly shape: readonly number[];
  readonly data: Uint8Array<ArrayBuffer>;
}

export type SessionName = "main" | "residuals";

/** Every request with its answer. */
export interface Operations {
  /** An engine without weights and sessions yet. */
  open: { request: { dtype: HeldDtype; layouts: readonly ParameterLayout[] }; answer: null };
  /** Opens a session for a later `session` of the same file. */
  ready: { request: { path: string; options: SessionOptions }; answer: null };
  session: { request: { name: SessionName; path: string; options: SessionOptions }; answer: readonly GraphInput[] };
  /** Puts finished buffers in place; answers the ones that they replace. */
  swap: { request: { buffers: readonly NamedBuffer[] }; answer: readonly NamedBuffer[] };
  /** Takes live buffers out, to be written in place and swapped back. No step may run meanwhile. */
  take: { request: { parameters: readonly string[] }; answer: readonly NamedBuffer[] };
  run: { request: { session: SessionName; inputs: readonly ReadyInput[] }; answer: readonly FrameTensor[] };
  /** Copies in canonical layout. */
  read: { request: { parameters: readonly string[] }; answer: readonly NamedBuffer[] };
  checksums: { request: { parameters: readonly string[] }; answer: Readonly<Record<string, string>> };
  close: { request: object; answer: null };
}
export type OperationName = keyof Operations;

export interface Request<O extends OperationName = OperationName> {
  readonly id: number;
  readonly engine: string;
  readonly operation: O;
  readonly request: Operations[O]["request"];
}

/** Of the one answer that nobody asked for: the thread has loaded its libraries. */
export const loadedId = 0;

export type Answer =
  | { readonly id: number; readonly answer: unknown }
  | {
      readonly id: number;
      readonly failure: { readonly code: HostErrorCode; readonly message: string; readonly evidence: Readonly<Record<string, unknown>> };
    };

/** The buffers inside a message, to be transferred with it. */
export function buffersOf(value: unknown): ArrayBuffer[] {
  if (value instanceof Uint8Array) return value.buffer instanceof ArrayBuffer ? [value.buffer] : [];
  if (Array.isArray(value)) return value.flatMap(buffersOf);
  if (typeof value === "object" && value !== null) return Object.values(value).flatMap(buffersOf);
  return [];
}

// Methods bound to what serves them. `bind` ties a schema to a handler, so that neither can drift from the other and nothing is cast.

import type { DeepReadonly, FrameTensor, JsonObject, Method, Role, TensorDescriptor, TensorDirection } from "@refit-sidecar/protocol";
import type { z } from "zod";
import { Failure } from "../../failure/index.ts";
import type { PlacedTensor, SharedTensor } from "../../host/types.ts";
import type { CallContext } from "../backend.ts";
import type { Calls, OpenCall } from "./calls.ts";
import type { Outbox } from "./outbox.ts";

export interface Reply<Result = unknown> {
  readonly result: Result;
  /** Tensors that go into the frame. */
  readonly tensors?: readonly FrameTensor[];
  /** Tensors that were written into a segment. */
  readonly descriptors?: readonly TensorDescriptor[];
}

export interface CallInput {
  readonly call: OpenCall;
  readonly tensors: readonly FrameTensor[];
  /** Large ones that still lie in the client's segment, and all in a device segment, for a method that takes them so. */
  readonly placed: readonly (PlacedTensor | SharedTensor)[];
  readonly context: CallContext;
}

export interface Bound {
  readonly role: Role;
  readonly tensors: TensorDirection;
  /** It need not have the bytes of large tensors in this process. */
  readonly takesPlaced: boolean;
  /** Checks the params (WIRE_PARAMS_INVALID) and returns the work that is left. */
  readonly check: (params: JsonObject) => (input: CallInput) => Promise<Reply>;
}

export interface SessionState {
  readonly id: string;
  readonly role: Role;
  readonly greeted: () => boolean;
  readonly attach: (outbox: Outbox, calls: Calls) => void;
  readonly contextOf: (call: OpenCall) => CallContext;
  readonly readSegment: (descriptor: TensorDescriptor) => Promise<FrameTensor>;
  /** Checked like one that is read, and left where it is. */
  readonly placeSegment: (descriptor: TensorDescriptor) => PlacedTensor | SharedTensor;
  readonly end: () => Promise<void>;
}

/** The first thing that is wrong, by its place. The client sent it, so it may hear of it. */
export function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0];
  return issue === undefined
    ? "the params do not fit"
    : `${issue.path.length > 0 ? `params.${issue.path.join(".")}` : "params"}: ${issue.message}`;
}

export function bind<Params extends z.ZodType, Result extends z.ZodType>(
  { role, tensors, params: schema }: Method<Params, Result>,
  handler: (params: z.output<Params>, input: CallInput) => Promise<Reply<DeepReadonly<z.input<Result>>>>,
  { takesPlaced = false }: { readonly takesPlaced?: boolean } = {},
): Bound {
  return {
    role,
    tensors,
    takesPlaced,
    check(params) {
      const parsed = schema.safeParse(params);
      if (!parsed.success) throw new Failure("WIRE_PARAMS_INVALID", firstIssue(parsed.error).slice(0, 500));
      return (input) => handler(parsed.data, input);
    },
  };
}

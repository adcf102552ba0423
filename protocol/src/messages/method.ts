// What a method of the wire is: schemas of params and result, who may call it, which way tensors travel.

import type { z } from "zod";

/** `read` sees; `control` also changes things. A control token may call everything. */
export type Role = "read" | "control";

/** Which way tensors travel beside the message: into the sidecar, out of it, both ways, or not at all. */
export type TensorDirection = "none" | "in" | "out" | "both";

export interface Method<Params extends z.ZodType, Result extends z.ZodType> {
  readonly summary: string;
  readonly role: Role;
  readonly tensors: TensorDirection;
  readonly params: Params;
  readonly result: Result;
}

/** Keeps the schemas' types, so that a table of methods types its handlers without a cast. */
export function method<Params extends z.ZodType, Result extends z.ZodType>(spec: Method<Params, Result>): Method<Params, Result> {
  return spec;
}

export interface Notification<Params extends z.ZodType> {
  readonly summary: string;
  readonly params: Params;
}

export function notificationOf<Params extends z.ZodType>(summary: string, params: Params): Notification<Params> {
  return { summary, params };
}

/** Values that are sent are never changed by the sender, so they may come from frozen snapshots. */
export type DeepReadonly<Value> = Value extends readonly (infer Item)[]
  ? readonly DeepReadonly<Item>[]
  : Value extends object
    ? { readonly [Key in keyof Value]: DeepReadonly<Value[Key]> }
    : Value;

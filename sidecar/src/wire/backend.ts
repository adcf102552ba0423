// The one door between the wire and the rest of the sidecar. pipeline/answers implements it; tests use a fake. Params and results are those of the
// protocol's method table, so a handler that forgets a field does not compile. Whatever fails is thrown as a Failure with its stage's code.

import type { FrameTensor, TensorDescriptor, WireEventValue, WireMethod, WireParams, WireResult } from "@refit-sidecar/protocol";
import type { ReplyPlace, SharedMemory, StepTensor } from "../host/types.ts";

/** What the backend may do while it serves one call. */
export interface CallContext {
  /** Who calls: names the session in logs and ties leases and jobs to it. */
  readonly session: string;
  /** Aborted when the client cancels the call or goes away. The call should end soon, with any error. */
  readonly signal: AbortSignal;
  readonly progress: (report: {
    readonly stage: string;
    readonly done: number;
    readonly total: number;
    readonly remainingMs: number | null;
    readonly text: string;
  }) => void;
  /** Offers a preview. `make` is called when it is sent, and not at all when a newer one or the call's answer comes first. */
  readonly preview: (report: { readonly done: number; readonly total: number; readonly make: () => FrameTensor }) => void;
  /** Asks the client to free this much device memory; resolves to what it freed (0 when it can't or doesn't answer in time). */
  readonly makeRoom: (bytes: number) => Promise<number>;
}

/**
 * A tensor of a step. `key` is set for conditioning that is the same object on every step of a run: a host may keep it on its device under this key.
 * A large one may still lie in the client's segment.
 */
export type StepInput = StepTensor;

export interface StepCall {
  readonly lease: string;
  readonly inputs: readonly StepInput[];
  /** Where the engine host leaves the outputs, in memory that it shares with the client. */
  readonly reply?: ReplyPlace;
}

export interface StepReply {
  readonly ms: WireResult<"engine.step">["ms"];
  readonly outputs: readonly FrameTensor[];
  /** Those that lie where `reply` said. */
  readonly placed: readonly TensorDescriptor[];
}

/** `reason`: why there is no such memory, in words for a person. */
export type ShareReply = { readonly memory: SharedMemory } | { readonly reason: string };

/** A loop's tensors lie in this process, those that were named by key too: the loop reads their values. */
export interface SampleCall {
  readonly params: WireParams<"engine.sample">;
  readonly tensors: readonly FrameTensor[];
}

export interface SampleReply {
  readonly result: Omit<WireResult<"engine.sample">, "tensors">;
  readonly latents: FrameTensor;
}

/** A pushed adapter, stored as a safetensors file that stays where it is until `forgetPushed` allows its removal. */
export interface PushedAdapter {
  readonly path: string;
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly name: string;
}

type Handler<M extends WireMethod> = (params: WireParams<M>, context: CallContext) => Promise<WireResult<M>>;

/** Methods that the wire hands on as they are. */
export type ForwardedMethod =
  | "catalog.list"
  | "catalog.get"
  | "catalog.notes"
  | "catalog.preview"
  | "adapter.layers"
  | "adapter.find"
  | "folders.list"
  | "folders.add"
  | "folders.remove"
  | "watch.pause"
  | "watch.resume"
  | "engine.prepare"
  | "engine.ahead"
  | "engine.release"
  | "engine.warm"
  | "engine.list"
  | "engine.refit"
  | "engine.rebuild"
  | "engine.free"
  | "device.restart"
  | "engine.restack"
  | "engine.draw"
  | "engine.history"
  | "jobs.list"
  | "jobs.cancel"
  | "jobs.pause"
  | "jobs.resume"
  | "telemetry.figures"
  | "telemetry.log"
  | "settings.list"
  | "cache.list";

/** Plain functions: they are called without `this`. */
export type WireBackend = { readonly [M in ForwardedMethod]: Handler<M> } & {
  readonly step: (call: StepCall, context: CallContext) => Promise<StepReply>;
  /** Memory of the engine's device for one client, as long as that stays. */
  readonly share: (wish: WireParams<"segments.open">) => Promise<ShareReply>;
  readonly sample: (call: SampleCall, context: CallContext) => Promise<SampleReply>;
  /** Takes a stored push into the catalog. The same content may come again. */
  readonly adoptPushed: (adapter: PushedAdapter) => Promise<{ readonly id: string }>;
  /** Takes it out again, before its file is removed; false while a stack uses it. */
  readonly forgetPushed: (sha256: string) => boolean;
  /** The status page without what only the wire knows (clients). */
  readonly status: () => Promise<Omit<WireResult<"status">, "clients" | "deviceSegments">>;
  readonly history: () => readonly { readonly atMs: number; readonly at: string; readonly event: WireEventValue }[];
  /** Returns the function that ends the subscription. */
  readonly subscribe: (
    listener: (event: { readonly atMs: number; readonly at: string; readonly event: WireEventValue }) => void,
  ) => () => void;
};

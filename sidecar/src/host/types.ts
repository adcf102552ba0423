// What the sidecar knows of an engine host: how to start it, what it answered, how it ended.

import type { FrameTensor, HostMethod, HostParams, HostResult, TensorDescriptor, TensorDtype } from "@refit-sidecar/protocol";

/** How to start a host. Never holds anything that a wire client sent. */
export interface HostCommand {
  /** onnxruntime, torch, tensorrt, … */
  readonly kind: string;
  readonly command: string;
  readonly args: readonly string[];
  /** What the command needs in its environment; `environment.ts` says what else is there. */
  readonly env?: Readonly<Record<string, string>>;
}

/** A tensor that stays where a client wrote it: a host that reads segments fetches its bytes itself, so neither the sidecar nor the pipe copies them. */
export interface PlacedTensor {
  readonly name: string;
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly bytes: number;
  /** File of the segment folder, and where in it. Checked by whoever made this: inside the file as the sidecar made it. */
  readonly segment: string;
  readonly offset: number;
  /** Copies it out, for a host that does not read segments. */
  readonly read: () => Promise<FrameTensor>;
}

/** A tensor in memory of an engine host's own device, where a client wrote it: only that host process can read it, and nobody else sees its bytes. */
export interface SharedTensor extends Omit<PlacedTensor, "read"> {
  /** `segment` is the name that the host gave the memory. */
  readonly read: null;
}

/** Memory of a host's device that a client may open too. */
export interface SharedMemory extends HostResult<"share"> {
  /** Gives it back. Never rejects: with the host's end it is gone by itself. */
  readonly release: () => Promise<void>;
}

/** Where in such memory the outputs of a step go. */
export type ReplyPlace = NonNullable<HostParams<"step">["reply"]>;

/** An input that later steps bring again, with the same content under the same key: a host that keeps inputs gets it once. */
export type KeyedTensor = FrameTensor & { readonly key?: string };

/** An input of a step. Its bytes belong to the call until that is answered, so a step can be sent again. */
export type StepTensor = KeyedTensor | PlacedTensor | SharedTensor;

export interface CallOptions {
  readonly tensors?: readonly StepTensor[];
  /** Asks the host to cancel; the call still ends with the host's answer (a result that came first, or HOST_CANCELLED). */
  readonly signal?: AbortSignal;
  /** Silence that is taken for a hung host: it is killed and the call fails with HOST_TIMEOUT. Progress counts as a sign of life. */
  readonly timeoutMs?: number;
  readonly onProgress?: (progress: { readonly stage: string; readonly done: number; readonly total: number }) => void;
}

export type HostReply<M extends HostMethod> = HostResult<M> & {
  readonly tensors: readonly FrameTensor[];
  /** Outputs that it left in the place that the call named (`reply`); their `segment` says nothing. */
  readonly placed: readonly TensorDescriptor[];
};

/** One method call on a host. Throws Failure with a code of the host's error table, or HOST_LOST, HOST_TIMEOUT, HOST_GARBAGE. */
export type HostCall = <M extends HostMethod>(method: M, params: HostParams<M>, options?: CallOptions) => Promise<HostReply<M>>;

/** How a host process ended. */
export interface HostExit {
  readonly code: number | null;
  readonly signal: string | null;
  /** Why the sidecar ended it itself, if it did. */
  readonly reason: string | null;
  /** Last lines of its log. */
  readonly log: readonly string[];
}

export interface Host {
  readonly kind: string;
  readonly pid: number;
  /** The answer to hello. */
  readonly about: HostResult<"hello">;
  readonly call: HostCall;
  /** It has ended or is being ended: calls fail from now on, though `ended` may take a moment. */
  readonly gone: () => boolean;
  /** How long it has had nothing to do, 0 while it works. Questions about its state are no work. */
  readonly idleMs: () => number;
  /** Settles once, when the process has ended and every pending call has failed. */
  readonly ended: Promise<HostExit>;
  /** Last lines of its stderr, oldest first. */
  readonly log: () => readonly string[];
  /** Asks it to end, kills it by pid when it does not. */
  readonly close: () => Promise<HostExit>;
  /** Ends it at once, with the reason that pending calls and `ended` report. */
  readonly kill: (reason: string) => void;
}

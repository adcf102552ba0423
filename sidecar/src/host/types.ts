// What the sidecar knows of an engine host: how to start it, what it answered, how it ended.

import type { FrameTensor, HostMethod, HostParams, HostResult } from "@refit-sidecar/protocol";

/** How to start a host. Never holds anything that a wire client sent. */
export interface HostCommand {
  /** onnxruntime, torch, tensorrt, … */
  readonly kind: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Added to the sidecar's environment. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface CallOptions {
  readonly tensors?: readonly FrameTensor[];
  /** Asks the host to cancel; the call still ends with the host's answer (a result that came first, or HOST_CANCELLED). */
  readonly signal?: AbortSignal;
  /** Silence that is taken for a hung host: it is killed and the call fails with HOST_TIMEOUT. Progress counts as a sign of life. */
  readonly timeoutMs?: number;
  readonly onProgress?: (progress: { readonly stage: string; readonly done: number; readonly total: number }) => void;
}

export type HostReply<M extends HostMethod> = HostResult<M> & { readonly tensors: readonly FrameTensor[] };

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

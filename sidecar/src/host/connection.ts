import {
  encodeFrameParts,
  FrameReader,
  isHostErrorCode,
  hostMethods,
  hostNotifications,
  type Frame,
  type FrameTensor,
  type HostMethod,
  type HostNotificationParams,
  type HostParams,
  type TensorDescriptor,
} from "@refit-sidecar/protocol";
import { Failure } from "../failure/index.ts";
import { KeptInputs, type Division } from "./kept-inputs.ts";
import { carried, type Reads, type Sent } from "./placed.ts";
import type { CallOptions, HostReply, StepTensor } from "./types.ts";

export type LogLevel = HostNotificationParams<"log">["level"];

interface Answer {
  readonly result: unknown;
  readonly tensors: readonly FrameTensor[];
  readonly placed: readonly TensorDescriptor[];
}

interface Pending {
  readonly method: HostMethod;
  readonly resolve: (reply: Answer) => void;
  readonly reject: (failure: Failure) => void;
  readonly alive: () => void;
  readonly onProgress: CallOptions["onProgress"];
}

export interface ConnectionParts {
  readonly write: (parts: readonly Uint8Array[]) => void;
  /** The host broke the protocol or fell silent: nothing it says can be trusted any more. */
  readonly onBroken: (reason: string) => void;
  readonly onLog: (level: LogLevel, message: string) => void;
  readonly onServing?: (serving: HostNotificationParams<"serving">) => void;
}

/** Longest silence during any call. A step of a large model on a small CPU takes minutes, and other calls wait behind it. */
const defaultTimeoutMs = 600_000;

/** Pairs requests with answers over one byte stream. Knows nothing of processes; whoever owns the stream feeds `receive` and calls `lose` when it ends. */
export class HostConnection {
  readonly #parts: ConnectionParts;
  readonly #reader = new FrameReader();
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;
  #workedMs = performance.now();
  #lost: Failure | null = null;
  /** By its own word, in its answer to hello. */
  #reads: Reads = { files: false, shared: false };
  /** Null for a host that keeps no inputs. */
  #kept: KeptInputs | null = null;

  constructor(parts: ConnectionParts) {
    this.#parts = parts;
  }

  get lost(): boolean {
    return this.#lost !== null;
  }

  /** How long no call has been under way; `status` does not count. */
  get idleMs(): number {
    for (const { method } of this.#pending.values()) if (method !== "status") return 0;
    return performance.now() - this.#workedMs;
  }

  async call<M extends HostMethod>(method: M, params: HostParams<M>, options: CallOptions = {}): Promise<HostReply<M>> {
    const { tensors, words, kept, used } = this.#kept?.divide(options.tensors ?? []) ?? whole(options.tensors ?? []);
    try {
      const reply = await this.#callWith(method, { ...params, ...words }, { ...options, tensors });
      this.#kept?.add(kept);
      return reply;
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== "HOST_INPUT_FORGOTTEN" || used.length === 0) throw error;
      this.#kept?.forget(used);
      return await this.call(method, params, options);
    }
  }

  async #callWith<M extends HostMethod>(method: M, params: HostParams<M>, options: CallOptions): Promise<HostReply<M>> {
    const ways = carried(options.tensors ?? [], this.#reads);
    const sent = ways instanceof Promise ? await ways : ways;
    if (this.#lost !== null) throw this.#lost;
    const id = ++this.#lastId;
    const { result, tensors, placed } = await this.#send(id, method, params, sent, options);
    const parsed = hostMethods[method].result.safeParse(result);
    if (!parsed.success)
      throw this.#break(
        `its answer to ${method} does not fit the protocol: ${parsed.error.issues[0]?.message ?? "unknown"} at ${parsed.error.issues[0]?.path.join(".") ?? "?"}`,
      );
    if (method === "hello") {
      const about = parsed.data as HostReply<"hello">;
      this.#reads = { files: about.segments === true, shared: about.shares !== undefined };
      this.#kept = about.keepsInputs === true ? new KeptInputs() : null;
    }
    // safeParse of a method's own schema gives that method's result; the lookup hides it from TypeScript.
    return { ...(parsed.data as object), tensors, placed } as HostReply<M>;
  }

  async #send(
    id: number,
    method: HostMethod,
    given: object,
    { inFrame, descriptors, segments }: Sent,
    options: CallOptions,
  ): Promise<Answer> {
    const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
    const params = segments.length === 0 ? given : { ...given, segments };
    const timer = setTimeout(() => this.#timeOut(id, method, timeoutMs), timeoutMs);
    const cancel = (): void => {
      if (this.#lost === null)
        this.#parts.write(encodeFrameParts({ jsonrpc: "2.0", id: ++this.#lastId, method: "cancel", params: { id } }));
    };
    try {
      return await new Promise((resolve, reject) => {
        this.#pending.set(id, { method, resolve, reject, alive: () => void timer.refresh(), onProgress: options.onProgress });
        this.#parts.write(encodeFrameParts({ jsonrpc: "2.0", id, method, params }, inFrame, descriptors));
        if (options.signal?.aborted === true) cancel();
        else options.signal?.addEventListener("abort", cancel, { once: true });
      });
    } finally {
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", cancel);
      this.#pending.delete(id);
      if (method !== "status") this.#workedMs = performance.now();
    }
  }

  #timeOut(id: number, method: HostMethod, timeoutMs: number): void {
    const reason = `it did not answer ${method} for ${timeoutMs} ms`;
    this.#pending
      .get(id)
      ?.reject(new Failure("HOST_TIMEOUT", `the engine host was ended: ${reason}; it is restarted`, { method, timeoutMs }));
    this.#parts.onBroken(reason);
  }

  /** Bytes from the host's stdout. */
  receive(chunk: Uint8Array): void {
    if (this.#lost !== null) return;
    let frames: Frame[];
    try {
      frames = this.#reader.push(chunk);
    } catch (error) {
      this.#break(`it wrote bytes that are not a frame (${error instanceof Error ? error.message : String(error)})`);
      return;
    }
    for (const frame of frames) this.#dispatch(frame);
  }

  #dispatch({ message, tensors, descriptors }: Frame): void {
    const { id, method, result, error } = message;
    if (typeof method === "string") return this.#notified(method, message["params"]);
    // Answers to our cancel requests find nobody waiting, and neither do answers to calls that timed out.
    const pending = typeof id === "number" ? this.#pending.get(id) : undefined;
    if (error !== undefined && pending === undefined && id === null) {
      this.#break(`it could not read our frames: ${asHostError(error).message}`);
      return;
    }
    if (pending === undefined) return;
    if (error !== undefined) pending.reject(asHostError(error));
    else pending.resolve({ result: result ?? {}, tensors, placed: descriptors.filter(({ segment }) => segment !== undefined) });
  }

  #notified(method: string, params: unknown): void {
    if (method === "progress") {
      const progress = hostNotifications.progress.safeParse(params);
      if (!progress.success) return;
      const pending = this.#pending.get(progress.data.id);
      pending?.alive();
      pending?.onProgress?.(progress.data);
    } else if (method === "log") {
      const line = hostNotifications.log.safeParse(params);
      if (line.success) this.#parts.onLog(line.data.level, line.data.message);
    } else if (method === "serving") {
      const serving = hostNotifications.serving.safeParse(params);
      if (serving.success) this.#parts.onServing?.(serving.data);
    }
  }

  #break(reason: string): Failure {
    const failure = new Failure(
      "HOST_GARBAGE",
      `the engine host was ended: ${reason}; check that sidecar and host have the same version`,
      {},
    );
    this.#fail(failure);
    this.#parts.onBroken(reason);
    return failure;
  }

  /** The process is gone: every pending call and every later one fails. */
  lose(reason: string): void {
    this.#fail(new Failure("HOST_LOST", `the engine host ended (${reason}); it is restarted into the desired state`, { reason }));
  }

  #fail(failure: Failure): void {
    this.#lost ??= failure;
    for (const pending of this.#pending.values()) pending.reject(failure);
    this.#pending.clear();
  }
}

/** Every tensor in the call, as a host that keeps none gets them. */
const whole = (tensors: readonly StepTensor[]): Division => ({ tensors, words: {}, kept: [], used: [] });

/** A host's error as a Failure; a code that the table lacks becomes HOST_INTERNAL, so that the sidecar only handles codes that it knows. */
function asHostError(error: unknown): Failure {
  const { message, data } = (typeof error === "object" && error !== null ? error : {}) as {
    message?: unknown;
    data?: { code?: unknown; evidence?: unknown };
  };
  const code = typeof data?.code === "string" && isHostErrorCode(data.code) ? data.code : "HOST_INTERNAL";
  const evidence = typeof data?.evidence === "object" && data.evidence !== null ? (data.evidence as Record<string, unknown>) : {};
  return new Failure(code, typeof message === "string" ? message : "the engine host failed without saying why", evidence);
}

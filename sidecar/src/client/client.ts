import { decodeFrame, encodeFrame, parseRpc, protocolVersion, request } from "@refit-sidecar/protocol";
import type { FrameTensor, JsonObject, WireEventValue, WireMethod, WireParams, WireResult } from "@refit-sidecar/protocol";
import { WebSocket } from "ws";
import { codeFrom, Failure } from "../failure/index.ts";
import type { Discovery } from "./discovery.ts";

export interface CallOptions {
  readonly tensors?: readonly FrameTensor[];
  readonly signal?: AbortSignal;
  readonly onPreview?: (preview: { readonly done: number; readonly total: number; readonly tensors: readonly FrameTensor[] }) => void;
  readonly onProgress?: (progress: { readonly stage: string; readonly done: number; readonly total: number }) => void;
}

export interface Answer<M extends WireMethod> {
  readonly result: WireResult<M>;
  readonly tensors: readonly FrameTensor[];
}

export interface HeardEvent {
  readonly atMs: number;
  readonly at: string;
  readonly event: WireEventValue;
}

/** A session with a sidecar. Tensors travel in frames: a client of this kind is for tools and tests, not for the per-step path of a UI. */
export interface Client {
  /** Throws Failure with the sidecar's own code, or CLIENT_CLOSED when the connection ended first. */
  readonly call: <M extends WireMethod>(method: M, params: WireParams<M>, options?: CallOptions) => Promise<Answer<M>>;
  readonly onEvent: (listener: (event: HeardEvent) => void) => () => void;
  readonly close: () => Promise<void>;
}

interface Waiting {
  readonly resolve: (answer: { result: unknown; tensors: readonly FrameTensor[] }) => void;
  readonly reject: (error: Failure) => void;
  readonly onProgress: CallOptions["onProgress"];
  readonly onPreview: CallOptions["onPreview"];
}

/** Enough for the largest picture a tool asks for; the sidecar has its own limits. */
const maxMessageBytes = 1024 * 1024 * 1024;

/** Connects and says hello. Throws Failure CLIENT_CONNECT. */
export async function connect(discovery: Discovery, name: string): Promise<Client> {
  const socket = new WebSocket(discovery.wsUrl, {
    perMessageDeflate: false,
    maxPayload: maxMessageBytes,
    headers: { authorization: `Bearer ${discovery.token}` },
  });
  await new Promise<void>((resolve, reject) => {
    socket.once("open", resolve);
    socket.once("error", (cause) =>
      reject(new Failure("CLIENT_CONNECT_FAILED", "the sidecar could not be reached; is it still running?", {}, { cause })),
    );
  });
  const waiting = new Map<number, Waiting>();
  const listeners = new Set<(event: HeardEvent) => void>();
  let count = 0;

  function receive(message: JsonObject, tensors: readonly FrameTensor[]): void {
    const rpc = parseRpc(message);
    if (rpc.kind === "notification") {
      if (rpc.method === "event") for (const listener of listeners) listener(rpc.params as unknown as HeardEvent);
      if (rpc.method === "progress")
        waiting.get(Number(rpc.params["request"]))?.onProgress?.(rpc.params as unknown as { stage: string; done: number; total: number });
      if (rpc.method === "preview")
        waiting.get(Number(rpc.params["request"]))?.onPreview?.({ ...(rpc.params as unknown as { done: number; total: number }), tensors });
      return;
    }
    if (rpc.kind === "request") return;
    const call = waiting.get(Number(rpc.id));
    if (!call) return;
    waiting.delete(Number(rpc.id));
    if (rpc.kind === "success") call.resolve({ result: rpc.result, tensors });
    else call.reject(new Failure(codeFrom(rpc.error.data?.code, "CLIENT_PROTOCOL"), rpc.error.message, { ...rpc.error.data }));
  }

  socket.on("message", (data, isBinary) => {
    if (isBinary) {
      const frame = decodeFrame(data as Buffer);
      receive(frame.message, frame.tensors);
    } else receive(JSON.parse((data as Buffer).toString("utf8")) as JsonObject, []);
  });
  socket.on("close", () => {
    for (const call of waiting.values())
      call.reject(new Failure("CLIENT_CLOSED", "the connection to the sidecar ended before it answered", {}));
    waiting.clear();
  });
  socket.on("error", () => socket.terminate());

  async function call<M extends WireMethod>(method: M, params: WireParams<M>, options: CallOptions = {}): Promise<Answer<M>> {
    options.signal?.throwIfAborted();
    if (socket.readyState !== WebSocket.OPEN) throw new Failure("CLIENT_CLOSED", "the connection to the sidecar is closed", {});
    count += 1;
    const id = count;
    const message = request(id, method, params as JsonObject);
    const answer = new Promise<{ result: unknown; tensors: readonly FrameTensor[] }>((resolve, reject) =>
      waiting.set(id, { resolve, reject, onProgress: options.onProgress, onPreview: options.onPreview }),
    );
    const cancel = () => socket.send(JSON.stringify(request((count += 1), "cancel", { request: id })));
    options.signal?.addEventListener("abort", cancel, { once: true });
    if (options.tensors && options.tensors.length > 0) socket.send(encodeFrame(message, options.tensors));
    else socket.send(JSON.stringify(message));
    try {
      const { result, tensors } = await answer;
      return { result: result as WireResult<M>, tensors };
    } finally {
      options.signal?.removeEventListener("abort", cancel);
    }
  }

  await call("hello", {
    protocolVersions: [protocolVersion],
    client: { name, version: discovery.version },
    capabilities: ["events", "push"],
  });
  return {
    call,
    onEvent(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    async close() {
      if (socket.readyState === WebSocket.CLOSED) return;
      const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
      socket.close();
      await closed;
    },
  };
}

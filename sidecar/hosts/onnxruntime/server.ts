import {
  encodeFrameParts,
  hostErrors,
  hostMethods,
  isHostErrorCode,
  type Frame,
  type FrameTensor,
  type HostErrorCode,
  type HostMethod,
  type JsonObject,
} from "@refit-sidecar/protocol";
import { z } from "zod";
import { asHostFailure, hostFailure } from "./host-failure.ts";
import type { Call, HostMethods } from "./host.ts";

export interface Output {
  readonly write: (parts: readonly Uint8Array[]) => void;
  /** The host has said its last word. */
  readonly end: () => void;
}

/** Speaks JSON-RPC over frames: checks every request, runs it, answers it exactly once. It knows calls, not engines. */
export class HostServer {
  readonly #methods: HostMethods;
  readonly #output: Output;
  readonly #calls = new Map<number, AbortController>();
  #greeted = false;
  #ending = false;

  constructor(methods: HostMethods, output: Output) {
    this.#methods = methods;
    this.#output = output;
  }

  /** Answers a frame; never throws. */
  async receive({ message, tensors }: Frame): Promise<void> {
    const id = message["id"];
    if (typeof id !== "number" || !Number.isSafeInteger(id) || message["jsonrpc"] !== "2.0" || typeof message["method"] !== "string") {
      this.fail(
        typeof id === "number" ? id : null,
        hostFailure("HOST_INVALID_REQUEST", "expected a JSON-RPC 2.0 request with a whole number as id and a method"),
      );
      return;
    }
    try {
      if (this.#calls.has(id))
        throw hostFailure("HOST_INVALID_REQUEST", `request ${id} is still being answered; use every id once`, { id });
      await this.#call(id, message["method"], message["params"] ?? {}, tensors);
    } catch (error) {
      this.fail(id, error);
    }
  }

  async #call(id: number, method: string, given: unknown, tensors: readonly FrameTensor[]): Promise<void> {
    if (!isMethod(method))
      throw hostFailure("HOST_UNKNOWN_METHOD", `expected one of ${Object.keys(hostMethods).join(", ")}, got ${method}`, { method });
    if (this.#ending) throw hostFailure("HOST_SHUTTING_DOWN", "this host is ending; start another");
    if (!this.#greeted && method !== "hello") throw hostFailure("HOST_HELLO_REQUIRED", `expected hello before ${method}`, { method });
    const parsed = hostMethods[method].params.safeParse(given);
    if (!parsed.success) throw hostFailure("HOST_INVALID_PARAMS", `${method}: ${z.prettifyError(parsed.error)}`, { method }, parsed.error);
    if (method === "cancel") return this.#cancel(id, parsed.data);
    const controller = new AbortController();
    this.#calls.set(id, controller);
    try {
      const call: Call = {
        id,
        tensors,
        signal: controller.signal,
        notify: (name, params) => this.#send({ jsonrpc: "2.0", method: name, params }),
      };
      if (method === "shutdown") this.#ending = true;
      // The table ties each method to its params; TypeScript cannot follow a union through two lookups.
      const run = this.#methods[method] as (
        params: unknown,
        call: Call,
      ) => Promise<{ result: JsonObject; tensors?: readonly FrameTensor[] }>;
      const answer = await run(parsed.data, call);
      if (method === "hello") this.#greeted = true;
      this.#send({ jsonrpc: "2.0", id, result: answer.result }, answer.tensors);
    } finally {
      this.#calls.delete(id);
    }
    if (method === "shutdown") this.#output.end();
  }

  #cancel(id: number, params: unknown): void {
    const { id: target } = hostMethods.cancel.params.parse(params);
    this.#calls.get(target)?.abort();
    this.#send({ jsonrpc: "2.0", id, result: {} });
  }

  /** Answers with an error; `id` is null when the request could not be read. */
  fail(id: number | null, error: unknown): void {
    const failure = asHostFailure(error);
    const code: HostErrorCode = isHostErrorCode(failure.code) ? failure.code : "HOST_INTERNAL";
    if (code === "HOST_INTERNAL")
      process.stderr.write(`${failure.cause instanceof Error ? (failure.cause.stack ?? failure.cause.message) : failure.message}\n`);
    this.#send({
      jsonrpc: "2.0",
      id,
      error: { code: hostErrors[code].number, message: failure.message, data: { code, evidence: failure.evidence } },
    });
  }

  /** Ends calls in progress when the other side is gone. */
  abandon(): void {
    this.#ending = true;
    for (const controller of this.#calls.values()) controller.abort();
  }

  #send(message: JsonObject, tensors: readonly FrameTensor[] = []): void {
    this.#output.write(encodeFrameParts(message, tensors));
  }
}

function isMethod(name: string): name is HostMethod {
  return Object.hasOwn(hostMethods, name);
}

import type { Worker } from "node:worker_threads";
import { hostFailure } from "../host-failure.ts";
import { buffersOf, loadedId, type Answer, type OperationName, type Operations } from "./messages.ts";

interface Waiter {
  readonly resolve: (answer: never) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * The thread that holds live weights and runs steps. ONNX Runtime blocks its thread for a whole step; in a thread of its own the host stays able to answer,
 * cancel and prepare meanwhile. Requests run one at a time, in order.
 */
export class Runner {
  /** The thread has loaded its libraries. One that is ended while it loads a native library takes the whole process with it (SIGABRT). */
  readonly loaded: Promise<void>;
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiter>();
  #lastId = loadedId;

  constructor(worker: Worker) {
    this.#worker = worker;
    // stdout carries frames only.
    this.#worker.stdout.pipe(process.stderr);
    // Its first message says that, see `loadedId`.
    this.loaded = new Promise((resolve) => this.#worker.once("message", () => resolve()));
    this.#worker.on("message", (message: Answer) => this.#answered(message));
    this.#worker.on("error", (error) => {
      // Live weights died with the thread: end the process, so that the sidecar starts a clean one.
      process.stderr.write(`the step thread failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
      process.exit(1);
    });
    // An idle host ends with its stdin.
    this.#worker.unref();
  }

  /** Operations that have not been answered. */
  get pending(): number {
    return this.#waiting.size;
  }

  /** Buffers inside `request` move to the thread and are gone here; buffers inside the answer have moved back. */
  call<O extends OperationName>(engine: string, operation: O, request: Operations[O]["request"]): Promise<Operations[O]["answer"]> {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, engine, operation, request }, buffersOf(request));
    });
  }

  #answered(message: Answer): void {
    const waiter = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (waiter === undefined) return;
    if ("failure" in message) waiter.reject(hostFailure(message.failure.code, message.failure.message, message.failure.evidence));
    // The id pairs the answer with the operation that was asked.
    else waiter.resolve(message.answer as never);
  }
}

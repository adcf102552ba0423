// The owner of the delta worker: one thread, started when first needed, replaced when it dies.

import { Worker } from "node:worker_threads";
import { Failure } from "../../failure/index.ts";
import type { DeltaRequest, ReadyDelta } from "../types.ts";
import { deltaFileName } from "./ensure-delta.ts";
import { decodeFailure, type FromWorker, type ToWorker } from "./worker-messages.ts";

interface Waiting {
  readonly resolve: (ready: ReadyDelta) => void;
  readonly reject: (error: Failure) => void;
}

export class DeltaService {
  readonly #entry: URL;
  readonly #waiting = new Map<number, Waiting>();
  /** Work under way by file: two callers of one delta share it. */
  readonly #making = new Map<string, Promise<ReadyDelta>>();
  #worker: Worker | null = null;
  #nextId = 1;
  #closed = false;

  /** `entry` is the compiled worker; the default is the one beside this file. */
  constructor(entry: URL = new URL("./worker.js", import.meta.url)) {
    this.#entry = entry;
  }

  /**
   * The ready delta, from the cache or made now. Throws Failure as `ensureDelta` does, and DELTA_CANCELLED, DELTA_WRITE_FAILED,
   * DELTA_WORKER_DIED (the thread was lost; the next call starts another). A signal counts only for work that this call started.
   */
  ready(request: DeltaRequest, signal?: AbortSignal): Promise<ReadyDelta> {
    const key = deltaFileName(request);
    const shared = this.#making.get(key);
    if (shared) return shared;
    const made = this.#make(request, signal).finally(() => this.#making.delete(key));
    this.#making.set(key, made);
    return made;
  }

  /** Starts the thread ahead of its first work: loading its code takes longer than packing a LoRA. */
  start(): void {
    this.#started();
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#worker?.terminate();
  }

  #make(request: DeltaRequest, signal: AbortSignal | undefined): Promise<ReadyDelta> {
    if (this.#closed) return Promise.reject(new Failure("DELTA_CANCELLED", "the delta service is closed"));
    const id = this.#nextId;
    this.#nextId += 1;
    const worker = this.#started();
    const cancel = (): void => worker.postMessage({ type: "cancel", id } satisfies ToWorker);
    return new Promise<ReadyDelta>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      worker.postMessage({ type: "make", id, request } satisfies ToWorker);
      if (signal?.aborted) cancel();
      signal?.addEventListener("abort", cancel, { once: true });
    }).finally(() => signal?.removeEventListener("abort", cancel));
  }

  #started(): Worker {
    if (this.#worker) return this.#worker;
    const worker = new Worker(this.#entry);
    // The sidecar ends when its work ends; an idle worker must not hold it.
    worker.unref();
    worker.on("message", (message: FromWorker) => this.#answered(message));
    worker.on("error", (error) => this.#died(worker, error));
    worker.on("exit", () => this.#died(worker, null));
    this.#worker = worker;
    return worker;
  }

  #answered(message: FromWorker): void {
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if ("ready" in message) waiting?.resolve(message.ready);
    else waiting?.reject(decodeFailure(message));
  }

  #died(worker: Worker, cause: unknown): void {
    if (this.#worker !== worker) return;
    this.#worker = null;
    const lost = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of lost)
      reject(
        new Failure(
          "DELTA_WORKER_DIED",
          "expected the delta worker to answer, its thread ended; ask again, a new one is started",
          {},
          { cause },
        ),
      );
  }
}

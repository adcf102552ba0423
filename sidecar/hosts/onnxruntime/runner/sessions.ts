import { InferenceSession } from "onnxruntime-node";
import { hostFailure } from "../host-failure.ts";
import { reasonOf } from "./held-engine.ts";
import type { SessionOptions } from "./messages.ts";

/** A graph's session holds no weights, so one that was opened for nobody serves whoever loads that graph first. */
const keptReady = 2;

/** Opens sessions, some before anybody asks. */
export class Sessions {
  readonly #ready = new Map<string, InferenceSession>();

  /** Throws HOST_GRAPH_INVALID when ONNX Runtime cannot load the file. */
  async open(path: string, options: SessionOptions): Promise<InferenceSession> {
    const key = keyOf(path, options);
    const ready = this.#ready.get(key);
    if (!this.#ready.delete(key) || ready === undefined) return create(path, options);
    return ready;
  }

  async prepare(path: string, options: SessionOptions): Promise<void> {
    const key = keyOf(path, options);
    if (this.#ready.has(key) || this.#ready.size >= keptReady) return;
    this.#ready.set(key, await create(path, options));
  }
}

const keyOf = (path: string, { provider, threads }: SessionOptions): string => `${provider} ${threads} ${path}`;

async function create(path: string, { provider, threads }: SessionOptions): Promise<InferenceSession> {
  try {
    return await InferenceSession.create(path, {
      executionProviders: provider === "cpu" ? ["cpu"] : [{ name: provider }, "cpu"],
      ...(threads > 0 ? { intraOpNumThreads: threads } : {}),
      // Planned patterns doubled the memory of activations (a block of their own for every size, beside the arena's) and made no step faster.
      enableMemPattern: false,
      logSeverityLevel: 3,
    });
  } catch (cause) {
    throw hostFailure(
      "HOST_GRAPH_INVALID",
      `ONNX Runtime could not load the graph with provider ${provider}: ${reasonOf(cause)}`,
      {},
      cause,
    );
  }
}

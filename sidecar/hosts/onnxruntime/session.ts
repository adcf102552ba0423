import { InferenceSession, Tensor } from "onnxruntime-node";
import type { FrameTensor } from "@refit-sidecar/protocol";
import { hostFailure } from "./host-failure.ts";
import { toFrame, toOrt } from "./tensors.ts";
import type { WeightStore } from "./weight-store.ts";

export interface SessionOptions {
  readonly provider: string;
  /** 0 lets ONNX Runtime decide. */
  readonly threads: number;
}

/**
 * One loaded graph whose weights are all inputs. ONNX Runtime does not copy a tensor that is passed as an input, so a step reads the store's buffers as they
 * are at that moment; `bind` must run again after a commit swapped buffers.
 */
export class Session {
  readonly #session: InferenceSession;
  readonly #metadata: ReadonlyMap<string, InferenceSession.TensorValueMetadata>;
  readonly #callInputs: readonly string[];
  #weights: Record<string, Tensor> = {};
  #boundGeneration = -1;

  private constructor(session: InferenceSession, metadata: ReadonlyMap<string, InferenceSession.TensorValueMetadata>, callInputs: readonly string[]) {
    this.#session = session;
    this.#metadata = metadata;
    this.#callInputs = callInputs;
  }

  /** Throws HOST_GRAPH_INVALID when the graph does not load or its weights are not those of the store. */
  static async load(path: string, store: WeightStore, options: SessionOptions): Promise<Session> {
    let session: InferenceSession;
    try {
      session = await InferenceSession.create(path, {
        executionProviders: options.provider === "cpu" ? ["cpu"] : [{ name: options.provider }, "cpu"],
        ...(options.threads > 0 ? { intraOpNumThreads: options.threads } : {}),
        logSeverityLevel: 3,
      });
    } catch (cause) {
      throw hostFailure("HOST_GRAPH_INVALID", `ONNX Runtime could not load the graph with provider ${options.provider}: ${cause instanceof Error ? cause.message : String(cause)}`, {}, cause);
    }
    const metadata = new Map<string, InferenceSession.TensorValueMetadata>();
    for (const entry of session.inputMetadata) if (entry.isTensor) metadata.set(entry.name, entry);
    const weights = checkWeights(metadata, store);
    return new Session(session, metadata, session.inputNames.filter((name) => !weights.has(name)));
  }

  /** Inputs that a call has to bring: everything that is not a weight. */
  get callInputs(): readonly string[] {
    return this.#callInputs;
  }

  /** Runs one call on the weights of `generation`. Blocks this process until it is done. */
  async run(tensors: readonly FrameTensor[], store: WeightStore, generation: number): Promise<FrameTensor[]> {
    const inputs: Record<string, Tensor> = {};
    for (const tensor of tensors) inputs[tensor.name] = await toOrt(tensor, this.#expected(tensor.name));
    const missing = this.#callInputs.filter((name) => inputs[name] === undefined);
    if (missing.length > 0) throw hostFailure("HOST_INPUT_INVALID", `expected inputs ${this.#callInputs.join(", ")}; missing ${missing.join(", ")}`, { missing });
    if (this.#boundGeneration !== generation) this.#bind(store, generation);
    let outputs: InferenceSession.OnnxValueMapType;
    try {
      outputs = await this.#session.run({ ...this.#weights, ...inputs });
    } catch (cause) {
      throw hostFailure("HOST_STEP_FAILED", `ONNX Runtime could not run the step: ${cause instanceof Error ? cause.message : String(cause)}`, {}, cause);
    }
    return this.#session.outputNames.map((name) => toFrame(name, outputs[name]));
  }

  #expected(name: string): InferenceSession.TensorValueMetadata {
    const expected = this.#callInputs.includes(name) ? this.#metadata.get(name) : undefined;
    if (expected !== undefined) return expected;
    throw hostFailure("HOST_INPUT_INVALID", `expected inputs ${this.#callInputs.join(", ")}; got ${name}`, { name });
  }

  #bind(store: WeightStore, generation: number): void {
    const weights: Record<string, Tensor> = {};
    for (const layout of store.layouts.values()) {
      const buffer = store.buffer(layout.name);
      for (const view of layout.weights) {
        weights[view.weight] =
          store.dtype === "f32"
            ? new Tensor("float32", new Float32Array(buffer.buffer, buffer.byteOffset + view.startElement * 4, view.elements), view.shape)
            : new Tensor("float16", new Uint16Array(buffer.buffer, buffer.byteOffset + view.startElement * 2, view.elements), view.shape);
      }
    }
    this.#weights = weights;
    this.#boundGeneration = generation;
  }

  async release(): Promise<void> {
    this.#weights = {};
    await this.#session.release();
  }
}

/** Names of the graph's inputs that are weights; each must have the store's dtype and the refit map's shape. */
function checkWeights(metadata: ReadonlyMap<string, InferenceSession.TensorValueMetadata>, store: WeightStore): ReadonlySet<string> {
  const names = new Set<string>();
  const wanted = store.dtype === "f32" ? "float32" : "float16";
  for (const layout of store.layouts.values()) {
    for (const view of layout.weights) {
      const input = metadata.get(view.weight);
      if (input === undefined) throw hostFailure("HOST_GRAPH_INVALID", `the graph has no input ${view.weight}, which its refit map names; export the graph again`, { weight: view.weight });
      if (input.type !== wanted) throw hostFailure("HOST_PRECISION_UNSUPPORTED", `expected weight ${view.weight} to be ${wanted} for ${store.dtype} weights, the graph variant has ${input.type}; load another variant`, { weight: view.weight });
      if (input.shape.length !== view.shape.length || input.shape.some((dimension, index) => dimension !== view.shape[index])) {
        throw hostFailure("HOST_GRAPH_INVALID", `weight ${view.weight}: the graph says [${input.shape.join(", ")}], its refit map [${view.shape.join(", ")}]; export the graph again`, { weight: view.weight });
      }
      names.add(view.weight);
    }
  }
  return names;
}

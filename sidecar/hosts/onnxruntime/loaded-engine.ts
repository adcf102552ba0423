import { freemem } from "node:os";
import type { FrameTensor, HostParams } from "@refit-sidecar/protocol";
import { BufferPool } from "./buffer-pool.ts";
import { Engine } from "./engine.ts";
import { readGraphBundle, variantPath, type GraphBundle } from "./graph.ts";
import { hostFailure } from "./host-failure.ts";
import type { HostOptions } from "./options.ts";
import { mappedLayouts, plainLayouts } from "./refit-map.ts";
import { Session } from "./session.ts";
import { WeightStore } from "./weight-store.ts";

type LoadCall = HostParams<"load">;

interface LoadedGraph {
  readonly bundle: GraphBundle;
  readonly variant: string;
  readonly main: Session;
  /** The variant with ControlNet residual inputs, loaded when a step first brings one. Both read the same weights. */
  residuals: Session | null;
}

/** An engine with what it needs to step: sessions over one weight store. */
export class LoadedEngine {
  readonly weights: Engine;
  readonly #graph: LoadedGraph | null;
  readonly #options: HostOptions;
  readonly #countSession: () => void;

  private constructor(weights: Engine, graph: LoadedGraph | null, options: HostOptions, countSession: () => void) {
    this.weights = weights;
    this.#graph = graph;
    this.#options = options;
    this.#countSession = countSession;
  }

  /** Session first (it fails fast), then the weights. */
  static async load(call: LoadCall, options: HostOptions, signal: AbortSignal, countSession: () => void, progress: (done: number, total: number) => void) {
    const bundle = call.graph === null ? null : await readGraphBundle(call.graph.folder);
    const store = makeStore(call, bundle);
    if (store.bytes > freemem() + options.spareBytes) {
      throw hostFailure("HOST_OUT_OF_MEMORY", `expected ${store.bytes} bytes of memory for the engine's weights, ${freemem()} are free; unload another engine or choose a smaller precision`, { bytes: store.bytes });
    }
    let graph: LoadedGraph | null = null;
    if (bundle !== null && call.graph !== null) {
      const main = await Session.load(variantPath(bundle, call.graph.variant), store, options);
      countSession();
      graph = { bundle, variant: call.graph.variant, main, residuals: null };
    }
    const engine = new LoadedEngine(new Engine(store, new BufferPool(options.stagingBytes), options.stagingBytes), graph, options, countSession);
    try {
      signal.throwIfAborted();
      return { engine, result: await engine.weights.fill(call, signal, progress) };
    } catch (error) {
      await engine.release();
      throw error;
    }
  }

  async step(tensors: readonly FrameTensor[], generation: number): Promise<FrameTensor[]> {
    const { weights } = this;
    if (this.#graph === null) throw hostFailure("HOST_NO_GRAPH", "expected an engine with a graph; this one was loaded from parameters alone");
    if (weights.dirty) throw hostFailure("HOST_ENGINE_DIRTY", "an earlier commit was cut short, so the weights belong to no stack; prepare and commit a full plan", { generation: weights.generation });
    if (generation !== weights.generation) {
      throw hostFailure("HOST_GENERATION_STALE", `expected a step on generation ${weights.generation}, got one for ${generation}; the weights were refitted since`, { expected: weights.generation, got: generation });
    }
    const session = await this.#session(this.#graph, tensors);
    return session.run(tensors, weights.store, weights.generation);
  }

  async #session(graph: LoadedGraph, tensors: readonly FrameTensor[]): Promise<Session> {
    const residuals = new Set(graph.bundle.residuals.map((residual) => residual.name));
    if (!tensors.some((tensor) => residuals.has(tensor.name))) return graph.main;
    if (graph.residuals === null) {
      graph.residuals = await Session.load(variantPath(graph.bundle, `residuals-${graph.variant}`), this.weights.store, this.#options);
      this.#countSession();
    }
    return graph.residuals;
  }

  async release(): Promise<void> {
    await this.#graph?.main.release();
    await this.#graph?.residuals?.release();
  }
}

function makeStore(call: LoadCall, bundle: GraphBundle | null): WeightStore {
  if (bundle === null) {
    if (call.parameters === undefined) throw hostFailure("HOST_INVALID_PARAMS", "expected either a graph or a table of parameters, got neither");
    return new WeightStore(call.weightDtype, plainLayouts(call.parameters));
  }
  if (call.parameters !== undefined) throw hostFailure("HOST_INVALID_PARAMS", "expected either a graph or a table of parameters, got both");
  if (call.weightDtype === "bf16") throw hostFailure("HOST_PRECISION_UNSUPPORTED", "this host runs graphs with f32 or f16 weights, not bf16", { weightDtype: call.weightDtype });
  const shapes = Object.fromEntries(Object.entries(call.checkpoint.parameters).map(([name, source]) => [name, source.shape]));
  return new WeightStore(call.weightDtype, mappedLayouts(bundle.refitMap, shapes));
}

import { freemem } from "node:os";
import type { FrameTensor, HostParams } from "@refit-sidecar/protocol";
import { BufferPool } from "./buffer-pool.ts";
import { Engine, type LiveWeights } from "./engine.ts";
import { readGraphBundle, variantPath, type GraphBundle } from "./graph.ts";
import { hostFailure } from "./host-failure.ts";
import type { HostOptions } from "./options.ts";
import { mappedLayouts, plainLayouts } from "./refit-map.ts";
import type { GraphInput, SessionName } from "./runner/messages.ts";
import type { Runner } from "./runner/runner.ts";
import { callInputs, readyInputs } from "./step-inputs.ts";
import { heldDtype, WeightTable } from "./weight-table.ts";

type LoadCall = HostParams<"load">;

/** What all engines of a host share. */
export interface EngineContext {
  readonly options: HostOptions;
  readonly runner: Runner;
  readonly countSession: () => void;
}

interface LoadedGraph {
  readonly bundle: GraphBundle;
  readonly variant: string;
  /** What a call brings, by session. The variant with ControlNet residual inputs is loaded when a step first brings one; both read the same weights. */
  readonly calls: Map<SessionName, ReadonlyMap<string, GraphInput>>;
}

/** An engine with what it needs to step: sessions in the step thread over one set of weights. */
export class LoadedEngine {
  readonly weights: Engine;
  readonly #name: string;
  readonly #graph: LoadedGraph | null;
  readonly #context: EngineContext;

  private constructor(name: string, weights: Engine, graph: LoadedGraph | null, context: EngineContext) {
    this.#name = name;
    this.weights = weights;
    this.#graph = graph;
    this.#context = context;
  }

  /** The session is opened in the step thread while the weights are read here; the first failure ends both. */
  static async load(call: LoadCall, context: EngineContext, signal: AbortSignal, progress: (done: number, total: number) => void) {
    const { runner, options } = context;
    const name = call.engine;
    const bundle = call.graph === null ? null : await readGraphBundle(call.graph.folder);
    const table = makeTable(call, bundle);
    if (table.bytes > freemem() + options.spareBytes) {
      throw hostFailure(
        "HOST_OUT_OF_MEMORY",
        `expected ${table.bytes} bytes of memory for the engine's weights, ${freemem()} are free; unload another engine or choose a smaller precision`,
        { bytes: table.bytes },
      );
    }
    const live: LiveWeights = {
      swap: (buffers) => runner.call(name, "swap", { buffers }),
      take: (parameters) => runner.call(name, "take", { parameters }),
    };
    const graph: LoadedGraph | null =
      bundle === null || call.graph === null ? null : { bundle, variant: call.graph.variant, calls: new Map() };
    const engine = new LoadedEngine(
      name,
      new Engine(table, live, new BufferPool(options.stagingBytes), options.stagingBytes),
      graph,
      context,
    );
    const failed = new AbortController();
    // Not awaited before the weights are read: a step thread that opens a graph ahead answers only when it is done.
    const opening = Promise.all([
      runner.call(name, "open", { dtype: table.dtype, layouts: [...table.layouts.values()] }),
      graph === null ? null : engine.#open(graph, "main", graph.variant),
    ]);
    opening.catch((error: unknown) => failed.abort(error));
    const filling = engine.weights.fill(call, AbortSignal.any([signal, failed.signal]), progress);
    const [opened, filled] = await Promise.allSettled([opening, filling]);
    if (opened.status === "fulfilled" && filled.status === "fulfilled") return { engine, result: filled.value };
    await engine.release();
    throw opened.status === "rejected" ? opened.reason : filled.status === "rejected" ? filled.reason : new TypeError("neither failed");
  }

  async #open(graph: LoadedGraph, session: SessionName, variant: string): Promise<ReadonlyMap<string, GraphInput>> {
    const { runner, options, countSession } = this.#context;
    const { provider, threads } = options;
    const inputs = await runner.call(this.#name, "session", {
      name: session,
      path: variantPath(graph.bundle, variant),
      options: { provider, threads },
    });
    countSession();
    const expected = callInputs(inputs, this.weights.table);
    graph.calls.set(session, expected);
    return expected;
  }

  async step(tensors: readonly FrameTensor[], generation: number): Promise<readonly FrameTensor[]> {
    const { weights } = this;
    const graph = this.#graph;
    if (graph === null) throw hostFailure("HOST_NO_GRAPH", "expected an engine with a graph; this one was loaded from parameters alone");
    if (weights.dirty)
      throw hostFailure(
        "HOST_ENGINE_DIRTY",
        "an earlier commit was cut short, so the weights belong to no stack; prepare and commit a full plan",
        { generation: weights.generation },
      );
    if (generation !== weights.generation) {
      throw hostFailure(
        "HOST_GENERATION_STALE",
        `expected a step on generation ${weights.generation}, got one for ${generation}; the weights were refitted since`,
        { expected: weights.generation, got: generation },
      );
    }
    const residuals = new Set(graph.bundle.residuals.map((residual) => residual.name));
    const session: SessionName = tensors.some((tensor) => residuals.has(tensor.name)) ? "residuals" : "main";
    const expected = graph.calls.get(session) ?? (await this.#open(graph, session, `residuals-${graph.variant}`));
    return this.#context.runner.call(this.#name, "run", { session, inputs: await readyInputs(tensors, expected) });
  }

  /** Weights in canonical layout. */
  async readBack(parameters: readonly string[]): Promise<FrameTensor[]> {
    const { table } = this.weights;
    const shapes = parameters.map((parameter) => table.layout(parameter).shape);
    const buffers = await this.#context.runner.call(this.#name, "read", { parameters });
    return buffers.map(([name, data], index) => ({ name, dtype: table.dtype, shape: shapes[index] ?? [], data }));
  }

  async checksums(parameters: readonly string[]): Promise<Readonly<Record<string, string>>> {
    for (const parameter of parameters) this.weights.table.layout(parameter);
    return this.#context.runner.call(this.#name, "checksums", { parameters });
  }

  async release(): Promise<void> {
    await this.#context.runner.call(this.#name, "close", {});
  }
}

function makeTable(call: LoadCall, bundle: GraphBundle | null): WeightTable {
  if (bundle === null) {
    if (call.parameters === undefined)
      throw hostFailure("HOST_INVALID_PARAMS", "expected either a graph or a table of parameters, got neither");
    return new WeightTable(heldDtype(call.weightDtype), plainLayouts(call.parameters));
  }
  if (call.parameters !== undefined) throw hostFailure("HOST_INVALID_PARAMS", "expected either a graph or a table of parameters, got both");
  const dtype = heldDtype(call.weightDtype);
  if (dtype === "bf16")
    throw hostFailure("HOST_PRECISION_UNSUPPORTED", "this host runs graphs with f32 or f16 weights, not bf16", { weightDtype: dtype });
  const shapes = Object.fromEntries(Object.entries(call.checkpoint.parameters).map(([name, source]) => [name, source.shape]));
  return new WeightTable(dtype, mappedLayouts(bundle.refitMap, shapes));
}

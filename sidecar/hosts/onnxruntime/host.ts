import { arch, cpus, freemem, platform, totalmem } from "node:os";
import { native } from "@refit-sidecar/native";
import {
  hostProtocolVersion,
  type FrameTensor,
  type HostMethod,
  type HostNotification,
  type HostNotificationParams,
  type HostParams,
  type HostResult,
} from "@refit-sidecar/protocol";
import { env } from "onnxruntime-node";
import { hostFailure } from "./host-failure.ts";
import { LoadedEngine, type EngineContext } from "./loaded-engine.ts";
import type { HostOptions } from "./options.ts";
import type { Runner } from "./runner/runner.ts";
import { Serial } from "./serial.ts";

/** What a method may use besides its params. */
export interface Call {
  readonly id: number;
  readonly tensors: readonly FrameTensor[];
  readonly signal: AbortSignal;
  readonly notify: <N extends HostNotification>(name: N, params: HostNotificationParams<N>) => void;
}

export interface Answer<M extends HostMethod> {
  readonly result: HostResult<M>;
  readonly tensors?: readonly FrameTensor[];
}

/** `cancel` belongs to the server, which knows the calls in progress. */
export type HostMethods = { readonly [M in Exclude<HostMethod, "cancel">]: (params: HostParams<M>, call: Call) => Promise<Answer<M>> };

const elapsed = (since: number): number => performance.now() - since;

/** The engines of this process and the methods on them. Steps, commits and unloads run one at a time; load and prepare run between them. */
export function createHost(options: HostOptions, runner: Runner): HostMethods {
  const engines = new Map<string, LoadedEngine>();
  const loading = new Set<string>();
  const live = new Serial();
  let sessionLoads = 0;
  const context: EngineContext = { options, runner, countSession: () => void (sessionLoads += 1) };

  const find = (name: string): LoadedEngine => {
    const engine = engines.get(name);
    if (engine === undefined)
      throw hostFailure("HOST_ENGINE_UNKNOWN", `expected the name of a loaded engine, got ${name}; load it`, { engine: name });
    return engine;
  };

  return {
    async hello({ protocolVersion }) {
      if (protocolVersion !== hostProtocolVersion)
        throw hostFailure(
          "HOST_PROTOCOL_MISMATCH",
          `expected protocol version ${hostProtocolVersion}, got ${protocolVersion}; update the older side`,
          { expected: hostProtocolVersion, got: protocolVersion },
        );
      return {
        result: {
          protocolVersion: hostProtocolVersion,
          kind: "onnxruntime",
          versions: {
            node: process.versions.node,
            onnxruntime: env.versions.node ?? env.versions.common,
            kernels: `${native.kind} (${native.detail})`,
          },
          device: { type: options.provider, name: cpus()[0]?.model.trim() ?? "unknown processor", capability: `${platform()}-${arch()}` },
          precisions: ["f32", "f16"],
          memory: { totalBytes: totalmem(), freeBytes: freemem() },
        },
      };
    },

    async share() {
      throw hostFailure("HOST_SHARE_REFUSED", "the embedded host shares no memory of its device", {});
    },
    async unshare() {
      return { result: { bytes: 0 } };
    },

    async load(params, { id, signal, notify }) {
      if (engines.has(params.engine) || loading.has(params.engine))
        throw hostFailure("HOST_ENGINE_EXISTS", `an engine ${params.engine} is loaded already; unload it first`, { engine: params.engine });
      const started = performance.now();
      let told = started;
      const progress = (done: number, total: number): void => {
        if (performance.now() - told < 100 && done < total) return;
        told = performance.now();
        notify("progress", { id, stage: "weights", done, total });
      };
      loading.add(params.engine);
      try {
        const { engine, result } = await LoadedEngine.load(params, context, signal, progress);
        engines.set(params.engine, engine);
        const { table, generation } = engine.weights;
        return {
          result: {
            ms: elapsed(started),
            parameters: table.layouts.size,
            bytes: table.bytes,
            sessionLoads,
            generation,
            ...(params.verify === true ? { sha256: result.sha256 } : {}),
          },
        };
      } finally {
        loading.delete(params.engine);
      }
    },

    async prepare(params, { signal }) {
      const started = performance.now();
      const result = await find(params.engine).weights.prepare(params, signal);
      return { result: { ...result, ms: elapsed(started) } };
    },

    commit: ({ engine, token }, { signal }) =>
      live.run(async () => {
        signal.throwIfAborted();
        const started = performance.now();
        const { weights } = find(engine);
        const writes = await weights.commit(token);
        return { result: { ms: elapsed(started), writes, generation: weights.generation } };
      }),

    async discard({ engine, token }) {
      find(engine).weights.discard(token);
      return { result: {} };
    },

    step: ({ engine, generation }, { tensors, signal }) =>
      live.run(async () => {
        signal.throwIfAborted();
        const started = performance.now();
        const outputs = await find(engine).step(tensors, generation);
        return { result: { ms: elapsed(started) }, tensors: outputs };
      }),

    readBack: ({ engine, parameters }) => live.run(async () => ({ result: {}, tensors: await find(engine).readBack(parameters) })),

    checksums: ({ engine, parameters }) =>
      live.run(async () => {
        const found = find(engine);
        return { result: { sha256: await found.checksums(parameters ?? [...found.weights.table.layouts.keys()]) } };
      }),

    unload: ({ engine: name }) =>
      live.run(async () => {
        const engine = find(name);
        engines.delete(name);
        await engine.release();
        return { result: { bytes: engine.weights.table.bytes } };
      }),

    // Weights lie in host memory here: there is no device to take them from.
    offload: ({ engine }) =>
      live.run(async () => {
        find(engine);
        return { result: { bytes: 0 } };
      }),

    async status() {
      return {
        result: {
          engines: [...engines].map(([engine, { weights }]) => ({
            engine,
            generation: weights.generation,
            dirty: weights.dirty,
            bytes: weights.table.bytes,
            parameters: weights.table.layouts.size,
            prepared: [...weights.tokens],
          })),
          sessionLoads,
          memory: { totalBytes: totalmem(), freeBytes: freemem(), processBytes: process.memoryUsage.rss() },
        },
      };
    },

    shutdown: () => live.run(async () => ({ result: {} })),
  };
}

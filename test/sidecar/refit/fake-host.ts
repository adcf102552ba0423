// A host in memory that keeps the protocol's promises about generations and two phases. Weights are texts: what was applied to each parameter; an adapter touches the parameters that its name spells.

import { createHash } from "node:crypto";
import type { HostParams, HostResult, HostMethod } from "../../../protocol/src/index.ts";
import { Failure } from "../../../sidecar/src/failure/index.ts";
import type { Host, HostCall, HostExit } from "../../../sidecar/src/host/index.ts";

type Source = HostParams<"load">["checkpoint"];

interface FakeEngine {
  weights: Map<string, string>;
  checkpoint: Source;
  generation: number;
  dirty: boolean;
  readonly prepared: Map<
    string,
    { readonly weights: Map<string, string>; readonly generation: number; readonly full: boolean; readonly checkpoint: Source }
  >;
}

export interface FakeHost extends Host {
  readonly engines: Map<string, FakeEngine>;
  readonly calls: string[];
  /** Limits of loss that loads and prepares came with; null where there was none. */
  readonly limits: (number | null)[];
  /** Fails the next call of a method. `cutShort` makes a failing commit write half of its plan. */
  readonly failNext: (method: HostMethod, failure: Failure, options?: { cutShort?: boolean }) => void;
  /** Lets the engine's memory lie: the next checksums calls report something else for this parameter. */
  readonly corrupt: (parameter: string, times?: number) => void;
  readonly die: (signal?: string) => void;
}

const hash = (text: string): string => createHash("sha256").update(text).digest("hex");

export function fakeHost(pid = 1, gpuBytes: number | null = null): FakeHost {
  const engines = new Map<string, FakeEngine>();
  const calls: string[] = [];
  const limits: (number | null)[] = [];
  const failures = new Map<HostMethod, { failure: Failure; cutShort: boolean }>();
  const corrupted = new Map<string, number>();
  let tokens = 0;
  let gone = false;
  let end: (exit: HostExit) => void = () => undefined;
  const ended = new Promise<HostExit>((resolve) => (end = resolve));

  const find = (name: string): FakeEngine => {
    const engine = engines.get(name);
    if (engine === undefined) throw new Failure("HOST_ENGINE_UNKNOWN", name);
    return engine;
  };
  const value = (checkpoint: HostParams<"load">["checkpoint"], stack: HostParams<"load">["stack"], parameter: string): string =>
    `${checkpoint.files[0]?.path ?? ""}|${stack
      .filter((file) => file.delta.includes(parameter))
      .map((file) => `${file.delta}@${file.strength}`)
      .join("+")}|${parameter}`;
  const hashes = (weights: ReadonlyMap<string, string>) => Object.fromEntries([...weights].map(([name, text]) => [name, hash(text)]));

  const methods = {
    load(params: HostParams<"load">): HostResult<"load"> {
      limits.push(params.adapterLoss ?? null);
      if (engines.has(params.engine)) throw new Failure("HOST_ENGINE_EXISTS", params.engine);
      const weights = new Map(Object.keys(params.parameters ?? {}).map((name) => [name, value(params.checkpoint, params.stack, name)]));
      engines.set(params.engine, { weights, checkpoint: params.checkpoint, generation: 1, dirty: false, prepared: new Map() });
      return {
        ms: 1,
        parameters: weights.size,
        bytes: Object.values(params.parameters ?? {}).reduce(
          (sum, shape) => sum + 4 * shape.reduce((product, dimension) => product * dimension, 1),
          0,
        ),
        sessionLoads: engines.size,
        generation: 1,

        ...(params.verify === true ? { sha256: hashes(weights) } : {}),
      };
    },
    prepare(params: HostParams<"prepare">): HostResult<"prepare"> {
      limits.push(params.adapterLoss ?? null);
      const engine = find(params.engine);
      if (engine.generation !== params.generation) throw new Failure("HOST_PLAN_STALE", "stale");
      if (engine.dirty && !params.plan.full) throw new Failure("HOST_ENGINE_DIRTY", "dirty");
      const checkpoint = params.checkpoint ?? engine.checkpoint;
      const weights = new Map(params.plan.writes.map(({ parameter }) => [parameter, value(checkpoint, params.stack, parameter)]));
      const token = `t${++tokens}`;
      engine.prepared.set(token, { weights, generation: engine.generation, full: params.plan.full, checkpoint });
      return {
        token,
        writes: weights.size,
        bytesRead: weights.size,
        bytesWritten: weights.size,
        ms: 1,
        mode: "staged",

        ...(params.verify === true ? { sha256: hashes(weights) } : {}),
      };
    },
    commit(params: HostParams<"commit">): HostResult<"commit"> {
      const engine = find(params.engine);
      const prepared = engine.prepared.get(params.token);
      if (prepared === undefined) throw new Failure("HOST_TOKEN_UNKNOWN", params.token);
      engine.prepared.delete(params.token);
      for (const [name, text] of prepared.weights) engine.weights.set(name, text);
      engine.generation += 1;
      engine.checkpoint = prepared.checkpoint;
      if (prepared.full) engine.dirty = false;
      return {
        ms: 1,
        writes: prepared.weights.size,
        generation: engine.generation,
        losses: [{ adapter: "a".repeat(64), projection: 0.31, lostShare: 0.8, merged: 3, branched: 1, parameters: [] }],
      };
    },
    discard(params: HostParams<"discard">) {
      find(params.engine).prepared.delete(params.token);
      return {};
    },
    step(params: HostParams<"step">): HostResult<"step"> {
      const engine = find(params.engine);
      if (engine.dirty) throw new Failure("HOST_ENGINE_DIRTY", "dirty");
      if (engine.generation !== params.generation) throw new Failure("HOST_GENERATION_STALE", "stale");
      return { ms: 1 };
    },
    checksums(params: HostParams<"checksums">): HostResult<"checksums"> {
      const sha256 = hashes(find(params.engine).weights);
      for (const [name, times] of [...corrupted]) {
        sha256[name] = hash("flipped bit");
        if (times > 1) corrupted.set(name, times - 1);
        else corrupted.delete(name);
      }
      return { sha256 };
    },
    offload(params: HostParams<"offload">): HostResult<"offload"> {
      return { bytes: 4 * find(params.engine).weights.size };
    },
    unload(params: HostParams<"unload">) {
      find(params.engine);
      engines.delete(params.engine);
      return { bytes: 1 };
    },
    status: (): HostResult<"status"> => ({
      engines: [...engines].map(([engine, { generation, dirty, weights, prepared }]) => ({
        engine,
        generation,
        dirty,
        bytes: weights.size,
        parameters: weights.size,
        prepared: [...prepared.keys()],
      })),
      sessionLoads: 0,
      memory: { totalBytes: 1, freeBytes: 1, processBytes: 1 },
    }),
  };

  const call = async (method: HostMethod, params: object): Promise<unknown> => {
    await new Promise<void>((resolve) => setImmediate(resolve));
    if (gone) throw new Failure("HOST_LOST", "gone");
    calls.push(method);
    const failing = failures.get(method);
    if (failing !== undefined) {
      failures.delete(method);
      if (failing.cutShort) cutShort(params as HostParams<"commit">);
      throw failing.failure;
    }
    const run = methods[method as keyof typeof methods] as (params: unknown) => object;
    return { ...run(params), tensors: [] };
  };
  const cutShort = ({ engine: name, token }: HostParams<"commit">): void => {
    const engine = find(name);
    const prepared = engine.prepared.get(token);
    engine.prepared.delete(token);
    for (const [parameter, text] of [...(prepared?.weights ?? [])].slice(0, 1)) engine.weights.set(parameter, text);
    engine.dirty = true;
    engine.generation += 1;
  };
  const die = (signal = "SIGKILL"): void => {
    gone = true;
    end({ code: null, signal, reason: null, log: [] });
  };
  return {
    kind: "fake",
    pid,
    engines,
    calls,
    limits,
    die,
    about: {
      protocolVersion: 1,
      kind: "fake",
      versions: {},
      device: { type: gpuBytes === null ? "cpu" : "cuda", name: "" },
      precisions: ["f32"],
      memory: { totalBytes: gpuBytes ?? 1, freeBytes: 1 },
    },
    // One function serves every method; the table above gives each its own types.
    call: call as unknown as HostCall,
    gone: () => gone,
    idleMs: () => 0,
    ended,
    log: () => [],
    kill: () => die(),
    close: () => {
      die();
      return ended;
    },
    failNext: (method, failure, options) => void failures.set(method, { failure, cutShort: options?.cutShort === true }),
    corrupt: (parameter, times = 1) => void corrupted.set(parameter, times),
  };
}

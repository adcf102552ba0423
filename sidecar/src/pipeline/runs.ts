// Leases: a client's right to step on an engine with its own weights. A lease keeps them for its run, or follows replaced files where it asked for that; one that nobody uses ends.

import { randomBytes } from "node:crypto";
import type { WireParams } from "@refit-sidecar/protocol";
import { Failure } from "../failure/index.ts";
import type { StepTensor } from "../host/index.ts";
import { stateKey } from "../plan/index.ts";
import type { EngineLease, Engines, EngineSpec } from "../refit/index.ts";
import { Runs } from "../step/index.ts";
import type { OnProgress, Run, RunReply } from "../step/index.ts";
import type { StepTable } from "./resolve/graphs.ts";
import type { ResolvedWanted, WantedRequest } from "./resolve/resolver.ts";

/** A run that is not stepped on for this long ends by itself: its client has died without a word, or forgot. */
export const leaseIdleMs = 10 * 60_000;
/** A sampler needs this long between two steps at most, before another run may take the engine. */
const graceMs = 30;
/** Beyond this a client had better fall back to its own path. */
const maxWaiting = 512;

export interface RunRequest extends WantedRequest {
  readonly precision: WireParams<"engine.prepare">["precision"];
  readonly host: WireParams<"engine.prepare">["host"];
  readonly residuals: boolean;
}

export interface Opened {
  readonly resolved: ResolvedWanted;
  readonly spec: EngineSpec;
  readonly table: StepTable;
  readonly engine: EngineLease["engine"];
  readonly run: Run;
}

export interface OpenRun extends Opened {
  readonly lease: string;
  readonly request: RunRequest;
}

export interface OpenOptions {
  readonly signal?: AbortSignal;
  /** Never ends by idleness: the live folder's own run. */
  readonly keep?: boolean;
  /** Takes the new content of a replaced file between two steps; without it the weights stay what they were prepared to be. */
  readonly follow?: boolean;
  /** Deltas, graph, then what the host tells of a load. */
  readonly onProgress?: OnProgress;
}

export interface RunsParts {
  readonly engines: Engines;
  readonly resolve: (request: WantedRequest, signal?: AbortSignal) => Promise<ResolvedWanted>;
  readonly specOf: (
    resolved: ResolvedWanted,
    request: RunRequest,
    signal?: AbortSignal,
  ) => Promise<{ readonly spec: EngineSpec; readonly table: StepTable }>;
  readonly turnMs: () => number;
  /** Weights could not be brought: told with what they were to be made from. */
  readonly onFailed: (resolved: ResolvedWanted) => void;
  readonly onStep: (engine: string, reply: RunReply) => void;
  readonly onReleased: () => void;
}

export interface FollowReport {
  /** A lease goes on with what it has of this file (id in the catalog). */
  readonly kept: (id: string) => void;
  readonly failed: (run: OpenRun, error: unknown) => void;
}

export interface OpenRuns {
  /** Brings an engine to the request's state and keeps it: LIVE when this resolves. */
  readonly open: (request: RunRequest, options?: OpenOptions) => Promise<OpenRun>;
  readonly get: (lease: string) => OpenRun;
  readonly step: (lease: string, tensors: readonly StepTensor[], signal?: AbortSignal) => Promise<RunReply>;
  readonly release: (lease: string) => void;
  /** Leases that asked for it get the new content of replaced files between two steps; `failed` hears of those that could not and go on as they were. */
  readonly follow: (changed: ReadonlySet<string>, told: FollowReport) => Promise<void>;
  /** A client's run keeps weights of this checkpoint that are not those of `state`, and could not be made again: its file has been replaced. */
  readonly holdsReplaced: (checkpoint: string, state: string) => boolean;
  readonly list: () => readonly OpenRun[];
  readonly steps: (engine: string) => number;
  readonly totalSteps: () => number;
  /** Steps that wait for an engine. */
  readonly waiting: () => number;
  /** A step ran or waits, or ended less than `ms` ago. */
  readonly activeWithin: (ms: number) => boolean;
  readonly close: () => void;
}

interface Held {
  current: OpenRun;
  readonly keep: boolean;
  readonly follow: boolean;
  timer: NodeJS.Timeout;
  busy: number;
}

export function createOpenRuns(parts: RunsParts): OpenRuns {
  const nowMs = () => performance.now();
  const runs = new Runs({
    turnMs: parts.turnMs,
    graceMs,
    maxWaiting,
    nowMs,
    onStep: (engine, reply) => {
      stepCounts.set(engine, (stepCounts.get(engine) ?? 0) + 1);
      parts.onStep(engine, reply);
    },
  });
  const held = new Map<string, Held>();
  const stepCounts = new Map<string, number>();
  let stepping = 0;
  let lastStepAtMs = -Infinity;

  async function openWanted(request: RunRequest, signal?: AbortSignal, onProgress?: OnProgress): Promise<Opened> {
    try {
      return await openOnce(request, signal, onProgress);
    } catch (error) {
      // The delta was damaged since it was verified; the second time it is verified anew, and made again.
      if (error instanceof Failure && error.code === "HOST_DELTA_INVALID") return openOnce(request, signal, onProgress);
      throw error;
    }
  }

  async function openOnce(request: RunRequest, signal?: AbortSignal, onProgress?: OnProgress): Promise<Opened> {
    onProgress?.({ stage: "delta", done: 0, total: 0 });
    const resolved = await parts.resolve(request, signal);
    onProgress?.({ stage: "graph", done: 0, total: 0 });
    const { spec, table } = await parts.specOf(resolved, request, signal);
    const engineLease = await parts.engines.acquire(spec);
    const run = runs.open(engineLease, resolved.wanted);
    try {
      onProgress?.({ stage: "engine", done: 0, total: 0 });
      await run.warm(signal, onProgress);
    } catch (error) {
      run.close();
      parts.onFailed(resolved);
      throw error;
    }
    return { resolved, spec, table, engine: engineLease.engine, run };
  }

  const idleTimer = (lease: string) => {
    const timer = setTimeout(() => {
      const entry = held.get(lease);
      if (entry && entry.busy === 0 && !entry.keep) release(lease);
    }, leaseIdleMs);
    timer.unref();
    return timer;
  };

  function release(lease: string): void {
    const entry = held.get(lease);
    if (!entry) return;
    held.delete(lease);
    clearTimeout(entry.timer);
    entry.current.run.close();
    parts.onReleased();
  }

  function required(lease: string): Held {
    const entry = held.get(lease);
    if (entry) return entry;
    throw new Failure("STEP_RUN_CLOSED", "this lease has ended (released, or not used for ten minutes); prepare again", {});
  }

  return {
    async open(request, { signal, keep = false, follow = false, onProgress } = {}) {
      const opened = await openWanted(request, signal, onProgress);
      const lease = `lease-${randomBytes(9).toString("base64url")}`;
      const current = { ...opened, lease, request };
      held.set(lease, { current, keep, follow, timer: idleTimer(lease), busy: 0 });
      return current;
    },
    get: (lease) => required(lease).current,
    async step(lease, tensors, signal) {
      const entry = required(lease);
      entry.busy += 1;
      stepping += 1;
      try {
        return await entry.current.run.step(tensors, signal);
      } finally {
        entry.busy -= 1;
        stepping -= 1;
        lastStepAtMs = nowMs();
        clearTimeout(entry.timer);
        entry.timer = idleTimer(lease);
      }
    },
    release,
    async follow(changed, { kept, failed }) {
      for (const entry of [...held.values()]) {
        // The live folder follows by itself.
        if (entry.keep) continue;
        const { request, resolved } = entry.current;
        const files = [
          resolved.checkpoint.entry.id,
          ...resolved.adapters.flatMap(({ id }, index) => (request.stack[index]?.adapter === id ? [id] : [])),
        ];
        const concerned = files.filter((id) => changed.has(id));
        if (concerned.length === 0) continue;
        const before = entry.current;
        try {
          // An entry also changes when its hash becomes known: the same content needs nothing.
          const now = await parts.resolve(request);
          if (stateKey(now.wanted.desired) === stateKey(resolved.wanted.desired)) continue;
          if (!entry.follow) {
            for (const id of concerned) kept(id);
            continue;
          }
          const opened = await openWanted(request);
          if (held.get(before.lease) !== entry) opened.run.close();
          else {
            entry.current = { ...before, ...opened };
            before.run.close();
          }
        } catch (error) {
          failed(before, error);
        }
      }
    },
    holdsReplaced: (checkpoint, state) =>
      [...held.values()].some(
        ({ keep, follow, current: { resolved } }) =>
          !keep && !follow && resolved.checkpoint.entry.id === checkpoint && resolved.checkpoint.state !== state,
      ),
    list: () => [...held.values()].map((entry) => entry.current),
    steps: (engine) => stepCounts.get(engine) ?? 0,
    waiting: () => Object.values(runs.waiting).reduce((sum, count) => sum + count, 0),
    totalSteps: () => [...stepCounts.values()].reduce((sum, count) => sum + count, 0),
    activeWithin: (ms) => stepping > 0 || nowMs() - lastStepAtMs < ms,
    close: () => {
      for (const lease of [...held.keys()]) release(lease);
    },
  };
}

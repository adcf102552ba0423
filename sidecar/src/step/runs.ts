import { Failure } from "../failure/index.ts";
import type { StepTensor } from "../host/types.ts";
import { stateKey } from "../plan/index.ts";
import type { StepReply, Wanted } from "../refit/types.ts";
import { Turns, type TurnOptions } from "./turns.ts";

export type OnProgress = (progress: { readonly stage: string; readonly done: number; readonly total: number }) => void;

/** What a step needs of an engine; the refit stage's LiveEngine fits. */
export interface StepEngine {
  readonly id: string;
  /** Makes the weights equal `wanted`; answers their generation. */
  readonly bring: (wanted: Wanted, signal?: AbortSignal, onProgress?: OnProgress) => Promise<number>;
  readonly step: (generation: number, tensors: readonly StepTensor[], signal?: AbortSignal) => Promise<StepReply>;
}

/** The right to an engine; refit's EngineLease fits. */
export interface StepLease<E extends StepEngine = StepEngine> {
  readonly engine: E;
  readonly release: () => void;
}

export interface RunReply extends StepReply {
  /** From admission to the start of the step: queue, turn and refit. */
  readonly waitedMs: number;
}

export interface RunsOptions extends TurnOptions {
  readonly onStep?: (engine: string, reply: RunReply) => void;
}

/** Denoiser calls of one client on one desired state. The state travels with every step; it never means "whatever is loaded". */
export interface Run {
  readonly wanted: Wanted;
  readonly step: (tensors: readonly StepTensor[], signal?: AbortSignal) => Promise<RunReply>;
  /** Only brings the weights, in turn: warm-up, or a live folder that changed. */
  readonly warm: (signal?: AbortSignal, onProgress?: OnProgress) => Promise<void>;
  /** Ends the run and gives the engine back; a step in progress still ends first. */
  readonly close: () => void;
}

/** Failures after which the same step can be computed again on a recovered engine: nothing of it was delivered. */
const recoverable: ReadonlySet<string> = new Set([
  "HOST_LOST",
  "HOST_GARBAGE",
  "HOST_TIMEOUT",
  "HOST_GENERATION_STALE",
  "HOST_ENGINE_DIRTY",
  "HOST_ENGINE_UNKNOWN",
]);

/** All runs, fairly sharing engines. */
export class Runs {
  readonly #options: RunsOptions;
  readonly #turns = new Map<StepEngine, { readonly turns: Turns; runs: number }>();

  constructor(options: RunsOptions) {
    this.#options = options;
  }

  /** Takes over the lease: `close` releases it. */
  open(lease: StepLease, wanted: Wanted): Run {
    const { engine } = lease;
    const shared = this.#turns.get(engine) ?? { turns: new Turns(this.#options), runs: 0 };
    this.#turns.set(engine, shared);
    shared.runs += 1;
    const key = stateKey(wanted.desired);
    const leave = shared.turns.open(key);
    let closed = false;
    let active = 0;
    let released = false;
    const finish = (): void => {
      if (!closed || active > 0 || released) return;
      released = true;
      leave();
      shared.runs -= 1;
      if (shared.runs === 0) this.#turns.delete(engine);
      lease.release();
    };
    const inTurn = async <T>(work: (ready: () => void) => Promise<T>, signal: AbortSignal | undefined): Promise<T> => {
      if (closed) throw new Failure("STEP_RUN_CLOSED", "expected a step on an open run; this one was released, prepare again");
      active += 1;
      try {
        return await shared.turns.run(key, work, signal);
      } finally {
        active -= 1;
        finish();
      }
    };
    return {
      wanted,
      step: (tensors, signal) => {
        const admitted = this.#options.nowMs();
        return inTurn((ready) => this.#step(engine, wanted, tensors, admitted, ready, signal), signal);
      },
      warm: (signal, onProgress) => inTurn(async () => void (await engine.bring(wanted, signal, onProgress)), signal),
      close: () => {
        closed = true;
        finish();
      },
    };
  }

  async #step(
    engine: StepEngine,
    wanted: Wanted,
    tensors: readonly StepTensor[],
    admitted: number,
    ready: () => void,
    signal: AbortSignal | undefined,
  ): Promise<RunReply> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const generation = await engine.bring(wanted, signal);
        ready();
        const waitedMs = this.#options.nowMs() - admitted;
        const reply = { ...(await engine.step(generation, tensors, signal)), waitedMs };
        this.#options.onStep?.(engine.id, reply);
        return reply;
      } catch (error) {
        // Once: an engine that fails the same step twice is not helped by a third time, and the plugin has its own path.
        if (attempt === 2 || !(error instanceof Failure) || !recoverable.has(error.code)) throw error;
      }
    }
  }

  /** Waiting steps by engine, for the pages. */
  get waiting(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#turns].map(([engine, { turns }]) => [engine.id, turns.waiting]));
  }
}

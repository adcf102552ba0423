import { randomBytes } from "node:crypto";
import { Failure } from "../failure/index.ts";
import type { CallOptions, StepTensor } from "../host/types.ts";
import { stateKey } from "../plan/index.ts";
import type { EngineLease, LiveEngine } from "../refit/index.ts";
import type { StepReply, Wanted } from "../refit/types.ts";
import { Turns, type TurnOptions } from "./turns.ts";

export type OnProgress = NonNullable<CallOptions["onProgress"]>;

type Engine = Pick<LiveEngine, "id" | "bring" | "step">;

/** An engine that a lease takes over, and the weights that it wants there. */
export interface Place<Origin> extends Pick<EngineLease, "release"> {
  readonly engine: Engine;
  readonly wanted: Wanted;
  /** What it was made from; the lease keeps it for whoever asks. */
  readonly origin: Origin;
}

export interface LeaseReply extends StepReply {
  /** From admission to the start of the step: queue, turn and refit. */
  readonly waitedMs: number;
}

export interface LeasesOptions extends TurnOptions {
  /** A lease that is not stepped on for this long ends by itself. */
  readonly idleMs: number;
  readonly onStep?: (engine: string, reply: LeaseReply) => void;
  /** A lease has ended, and is no longer in the list. */
  readonly onEnd?: () => void;
}

export interface OpenOptions {
  readonly signal?: AbortSignal | undefined;
  /** Never ends by idleness. */
  readonly keep?: boolean;
  readonly onProgress?: OnProgress | undefined;
}

/** A client's right to step on an engine with its own weights. They travel with every step; it never means "whatever is loaded". */
export interface Lease<Origin> {
  readonly id: string;
  readonly origin: Origin;
  readonly engine: string;
  readonly wanted: Wanted;
  /** Throws STEP_RUN_CLOSED after its end, STEP_QUEUE_FULL, HOST_CANCELLED, and what the engine throws. */
  readonly step: (tensors: readonly StepTensor[], signal?: AbortSignal) => Promise<LeaseReply>;
  /** Steps from now on run there, once the weights are there; until then, and when they cannot be brought, everything stays as it was. */
  readonly move: (place: Place<Origin>) => Promise<void>;
  /** Gives the engine back; a step in progress still ends first. */
  readonly end: () => void;
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

const ended = () => new Failure("STEP_RUN_CLOSED", "this lease has ended (released, or not used for ten minutes); prepare again", {});

/** All leases, fairly sharing engines. */
export class Leases<Origin> {
  readonly #options: LeasesOptions;
  readonly #turns = new Map<Engine, { readonly turns: Turns; stays: number }>();
  readonly #held = new Map<string, Lease<Origin>>();
  readonly #steps = new Map<string, number>();
  #stepping = 0;
  #lastStepAtMs = -Infinity;

  constructor(options: LeasesOptions) {
    this.#options = options;
  }

  /** Brings the weights, in turn, and answers a lease on them. Takes over the place: it is released when the lease ends, or when the weights cannot be brought. */
  async open(place: Place<Origin>, { signal, keep = false, onProgress }: OpenOptions = {}): Promise<Lease<Origin>> {
    const { idleMs, nowMs, onStep, onEnd } = this.#options;
    const id = `lease-${randomBytes(9).toString("base64url")}`;
    let stay = await this.#arrive(place, signal, onProgress);
    let timer: NodeJS.Timeout | undefined;
    const wait = () => {
      clearTimeout(timer);
      if (keep || !this.#held.has(id)) return;
      timer = setTimeout(() => (stay.isBusy() ? wait() : lease.end()), idleMs);
      timer.unref();
    };
    const lease: Lease<Origin> = {
      id,
      get origin() {
        return stay.place.origin;
      },
      get engine() {
        return stay.place.engine.id;
      },
      get wanted() {
        return stay.place.wanted;
      },
      step: async (tensors, stepSignal) => {
        const { engine, wanted } = stay.place;
        const admittedMs = nowMs();
        this.#stepping += 1;
        try {
          const work = (ready: () => void) => stepOn(engine, wanted, tensors, () => (ready(), nowMs() - admittedMs), stepSignal);
          const reply = await stay.inTurn(work, stepSignal);
          this.#steps.set(engine.id, (this.#steps.get(engine.id) ?? 0) + 1);
          onStep?.(engine.id, reply);
          return reply;
        } finally {
          this.#stepping -= 1;
          this.#lastStepAtMs = nowMs();
          wait();
        }
      },
      move: async (next) => {
        const arrived = await this.#arrive(next);
        if (!this.#held.has(id)) return arrived.leave();
        stay.leave();
        stay = arrived;
      },
      end: () => {
        clearTimeout(timer);
        stay.leave();
        if (this.#held.delete(id)) onEnd?.();
      },
    };
    this.#held.set(id, lease);
    wait();
    return lease;
  }

  /** Throws STEP_RUN_CLOSED for one that has ended, or never was. */
  get(id: string): Lease<Origin> {
    const lease = this.#held.get(id);
    if (lease === undefined) throw ended();
    return lease;
  }

  /** Ends it; nothing when it has ended before. */
  release(id: string): void {
    this.#held.get(id)?.end();
  }

  list(): readonly Lease<Origin>[] {
    return [...this.#held.values()];
  }

  /** Steps that an engine has run; without an id, of all engines. */
  steps(engine?: string): number {
    if (engine !== undefined) return this.#steps.get(engine) ?? 0;
    return [...this.#steps.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Steps that wait for an engine. */
  waiting(): number {
    return [...this.#turns.values()].reduce((sum, { turns }) => sum + turns.waiting, 0);
  }

  /** A step runs or waits, or ended less than `ms` ago. */
  activeWithin(ms: number): boolean {
    return this.#stepping > 0 || this.#options.nowMs() - this.#lastStepAtMs < ms;
  }

  close(): void {
    for (const lease of this.list()) lease.end();
  }

  /** Enters the engine's queue and brings the weights there. */
  async #arrive(place: Place<Origin>, signal?: AbortSignal, onProgress?: OnProgress): Promise<Stay<Origin>> {
    const { engine, wanted } = place;
    const shared = this.#turns.get(engine) ?? { turns: new Turns(this.#options), stays: 0 };
    this.#turns.set(engine, shared);
    shared.stays += 1;
    const stay = stayAt(place, shared.turns, () => {
      shared.stays -= 1;
      if (shared.stays === 0) this.#turns.delete(engine);
    });
    try {
      await stay.inTurn(() => engine.bring(wanted, signal, onProgress), signal);
    } catch (error) {
      stay.leave();
      throw error;
    }
    return stay;
  }
}

/** A lease's time at one place. */
interface Stay<Origin> {
  readonly place: Place<Origin>;
  readonly inTurn: <T>(work: (ready: () => void) => Promise<T>, signal: AbortSignal | undefined) => Promise<T>;
  readonly isBusy: () => boolean;
  /** The engine goes back when what runs has ended. */
  readonly leave: () => void;
}

function stayAt<Origin>(place: Place<Origin>, turns: Turns, left: () => void): Stay<Origin> {
  const state = stateKey(place.wanted.desired);
  const leaveTurns = turns.open(state);
  let active = 0;
  let leaving = false;
  const giveBack = () => {
    leaveTurns();
    left();
    place.release();
  };
  return {
    place,
    isBusy: () => active > 0,
    async inTurn(work, signal) {
      if (leaving) throw ended();
      active += 1;
      try {
        return await turns.run(state, work, signal);
      } finally {
        active -= 1;
        if (leaving && active === 0) giveBack();
      }
    },
    leave() {
      if (leaving) return;
      leaving = true;
      if (active === 0) giveBack();
    },
  };
}

/** `arrived` is told when the weights are there, and answers how long the step had to wait for them. */
async function stepOn(
  engine: Engine,
  wanted: Wanted,
  tensors: readonly StepTensor[],
  arrived: () => number,
  signal: AbortSignal | undefined,
): Promise<LeaseReply> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const generation = await engine.bring(wanted, signal);
      const waitedMs = arrived();
      return { ...(await engine.step(generation, tensors, signal)), waitedMs };
    } catch (error) {
      // Once: an engine that fails the same step twice is not helped by a third time, and the plugin has its own path.
      if (attempt === 2 || !(error instanceof Failure) || !recoverable.has(error.code)) throw error;
    }
  }
}

import { randomBytes } from "node:crypto";
import { Failure } from "../failure/index.ts";
import { nextLook, patienceFor } from "../host/index.ts";
import type { CallOptions, ReplyPlace, SharedMemory, StepTensor } from "../host/types.ts";
import type { SharedWish, StepReply, Wanted } from "../refit/types.ts";
import { ended, stayAt, type Engine, type Place, type Stay, type StayLook } from "./stay.ts";
import { Turns, type TurnOptions } from "./turns.ts";

export type OnProgress = NonNullable<CallOptions["onProgress"]>;

export interface LeaseReply extends StepReply {
  readonly engine: string;
  /** From admission to the start of the step: queue, turn and refit. */
  readonly waitedMs: number;
  /** Of the weights that it ran on: another one than before means that they had to be brought again. */
  readonly generation: number;
}

export interface LeasesOptions<Origin> extends TurnOptions {
  /** A lease that is not stepped on for this long ends by itself. */
  readonly idleMs: number;
  readonly onStep?: (lease: Lease<Origin>, reply: LeaseReply, tensors: readonly StepTensor[]) => void;
  /**
   * Another place with the same weights, for a lease whose engine failed under a step or `mustLeave`; null: there is none that serves. Without it a step that
   * was lost is computed again on the same engine.
   */
  readonly elsewhere?: (place: Place<Origin>) => Promise<Place<Origin> | null>;
  /** How long a step waits while hosts end under it or are away (`EngineProvider.patienceMs`). */
  readonly patienceMs?: number;
  /** The place serves no more, or badly: the next step goes elsewhere. */
  readonly mustLeave?: (place: Place<Origin>) => boolean;
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
  /** What a refit took when it arrived where it is; 0: its weights were there, or had to be loaded. A wait for others is none of it. */
  readonly refitMs: number;
  /** Throws STEP_RUN_CLOSED after its end, STEP_QUEUE_FULL, HOST_CANCELLED, and what the engine throws. */
  readonly step: (tensors: readonly StepTensor[], signal?: AbortSignal, reply?: ReplyPlace) => Promise<LeaseReply>;
  /** Memory that the client shares with the host which holds the engine now. Throws HOST_SHARE_REFUSED, HOST_LOST. */
  readonly share: (wish: SharedWish) => Promise<SharedMemory>;
  /** Steps from now on run there, once the weights are there; until then, and when they cannot be brought, everything stays as it was. */
  readonly move: (place: Place<Origin>) => Promise<void>;
  /** Gives the engine back; a step in progress still ends first. */
  readonly end: () => void;
}

/** Failures after which the same step can be computed again on a recovered engine, or on another one: nothing of it was delivered. */
const recoverable: ReadonlySet<string> = new Set([
  "HOST_LOST",
  "HOST_GARBAGE",
  "HOST_TIMEOUT",
  "HOST_GENERATION_STALE",
  "HOST_ENGINE_DIRTY",
  "HOST_ENGINE_UNKNOWN",
  "HOST_SHUTTING_DOWN",
]);
/** With several devices: the host of this one keeps ending, and is not started at present. */
const leavable: ReadonlySet<string> = new Set([...recoverable, "HOST_START_FAILED"]);
/** Times that one step may be lost: it could be the step that ends its host. */
const mostLosses = 3;
/** The same where hosts end because what they run in comes and goes. */
const mostLossesPatient = 8;

/** All leases, fairly sharing engines. */
export class Leases<Origin> {
  readonly #options: LeasesOptions<Origin>;
  readonly #turns = new Map<Engine, { readonly turns: Turns; stays: number }>();
  readonly #held = new Map<string, Lease<Origin>>();
  readonly #stays = new Set<Stay<Origin>>();
  readonly #steps = new Map<string, number>();
  #stepping = 0;
  #lastStepAtMs = -Infinity;

  constructor(options: LeasesOptions<Origin>) {
    this.#options = options;
  }

  /** Brings the weights, in turn, and answers a lease on them. Takes over the place: it is released when the lease ends, or when the weights cannot be brought. */
  async open(place: Place<Origin>, { signal, keep = false, onProgress }: OpenOptions = {}): Promise<Lease<Origin>> {
    const { idleMs, nowMs, onStep, onEnd, elsewhere, mustLeave, patienceMs = 0 } = this.#options;
    const tries = elsewhere === undefined ? 2 : 1;
    const id = `lease-${randomBytes(9).toString("base64url")}`;
    let { stay, refitMs } = await this.#arrive(place, signal, onProgress);
    let timer: NodeJS.Timeout | undefined;
    const wait = () => {
      clearTimeout(timer);
      if (keep || !this.#held.has(id)) return;
      timer = setTimeout(() => (stay.isBusy() ? wait() : lease.end()), idleMs);
      timer.unref();
    };
    let leaving: Promise<void> | null = null;
    /** The lease goes on elsewhere, once for all of its steps that find it at that place. A place that cannot take it changes nothing: the step says what is wrong. */
    const leave = async (from: Stay<Origin>) => {
      if (stay !== from || elsewhere === undefined) return;
      leaving ??= elsewhere(from.place)
        .then((next) => (next === null ? undefined : lease.move(next)))
        .catch(() => undefined)
        .finally(() => (leaving = null));
      await leaving;
    };
    const atSomePlace = async <T>(work: () => Promise<T>): Promise<T> => {
      if (mustLeave?.(stay.place) === true) await leave(stay);
      const isWilling = patienceFor(patienceMs, nowMs);
      for (let losses = 0; ;) {
        const here = stay;
        try {
          return await work();
        } catch (error) {
          if (elsewhere === undefined || !(error instanceof Failure) || !leavable.has(error.code)) throw error;
          const isPatient = isWilling();
          // A host that is away has lost nothing.
          if (!isPatient || error.code !== "HOST_START_FAILED") losses += 1;
          if (losses >= (isPatient ? mostLossesPatient : mostLosses)) throw error;
          await leave(here);
          if (stay !== here) continue;
          // Nowhere else: once more where it is, as with a single device.
          if (isPatient) await nextLook();
          else if (losses > 1) throw error;
        }
      }
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
      get refitMs() {
        return refitMs;
      },
      share: (wish) => stay.place.engine.share(wish),
      step: async (tensors, stepSignal, replyPlace) => {
        const admittedMs = nowMs();
        this.#stepping += 1;
        try {
          const reply = await atSomePlace(async () => {
            const { inTurn, place } = stay;
            const work = (ready: (refitMs: number) => void) =>
              stepOn(place, tensors, () => (ready(place.engine.refitMs), nowMs() - admittedMs), tries, stepSignal, replyPlace);
            return { ...(await inTurn(work, stepSignal)), engine: place.engine.id };
          });
          this.#steps.set(reply.engine, (this.#steps.get(reply.engine) ?? 0) + 1);
          onStep?.(lease, reply, tensors);
          return reply;
        } finally {
          this.#stepping -= 1;
          this.#lastStepAtMs = nowMs();
          wait();
        }
      },
      move: async (next) => {
        const arrived = await this.#arrive(next);
        if (!this.#held.has(id)) return arrived.stay.leave();
        stay.leave();
        ({ stay, refitMs } = arrived);
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

  /** Steps that wait for an engine; without an id, for all. */
  waiting(engine?: string): number {
    return [...this.#turns].reduce((sum, [{ id }, { turns }]) => sum + (engine === undefined || id === engine ? turns.waiting : 0), 0);
  }

  /** What runs do at engines, those that are still arriving included. */
  stays(): readonly StayLook[] {
    return [...this.#stays].map(({ look }) => look());
  }

  /** A step runs or waits, or ended less than `ms` ago. */
  activeWithin(ms: number): boolean {
    return this.#stepping > 0 || this.#options.nowMs() - this.#lastStepAtMs < ms;
  }

  close(): void {
    for (const lease of this.list()) lease.end();
  }

  /** Enters the engine's queue and brings the weights there. */
  async #arrive(place: Place<Origin>, signal?: AbortSignal, onProgress?: OnProgress): Promise<{ stay: Stay<Origin>; refitMs: number }> {
    const { engine, wanted } = place;
    const shared = this.#turns.get(engine) ?? { turns: new Turns(this.#options), stays: 0 };
    this.#turns.set(engine, shared);
    shared.stays += 1;
    const stay = stayAt(place, shared.turns, this.#options.nowMs, () => {
      this.#stays.delete(stay);
      shared.stays -= 1;
      if (shared.stays === 0) this.#turns.delete(engine);
    });
    this.#stays.add(stay);
    try {
      // The turn begins here, not with the first step: else whoever waits would take the engine in between, and the first step would need a second refit.
      const bring = async (ready: (refitMs: number) => void) => {
        await engine.bring(wanted, signal, onProgress);
        ready(engine.refitMs);
        return engine.refitMs;
      };
      return { stay, refitMs: await stay.inTurn(bring, signal) };
    } catch (error) {
      stay.leave();
      throw error;
    }
  }
}

/** `arrived` is told when the weights are there, and answers how long the step had to wait for them. */
async function stepOn(
  { engine, wanted }: Pick<Place<unknown>, "engine" | "wanted">,
  tensors: readonly StepTensor[],
  arrived: () => number,
  tries: number,
  signal: AbortSignal | undefined,
  reply: ReplyPlace | undefined,
): Promise<Omit<LeaseReply, "engine">> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const generation = await engine.bring(wanted, signal);
      const waitedMs = arrived();
      return { ...(await engine.step(generation, tensors, signal, reply)), waitedMs, generation };
    } catch (error) {
      // At most once: an engine that fails the same step twice is not helped by a third time, and the plugin has its own path.
      if (attempt === tries || !(error instanceof Failure) || !recoverable.has(error.code)) throw error;
    }
  }
}

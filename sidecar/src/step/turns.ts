import { Failure } from "../failure/index.ts";

export interface TurnOptions {
  /**
   * How long runs of one state may keep the engine while runs of another wait, counted from the moment when its weights are there. Never less than
   * `keepFactor` (6) times what the refit took, so that sharing keeps six sevenths of the throughput however slow a refit is. A wait for a host, or a load into one, is no refit: it does not come again with the next turn.
   */
  readonly turnMs: () => number;
  /** How long after a step the engine is held for the next one of a run whose turn is not over: a sampler needs a moment between two steps. */
  readonly graceMs: number;
  /** Steps that may wait for one engine; more is refused at once, so that a client falls back instead of hanging. */
  readonly maxWaiting: number;
  readonly nowMs: () => number;
}

const keepFactor = 6;
/** Weight of the newest run in the share of runs whose state comes back at once, and the share from which the engine is held for the next one. */
const returnWeight = 1 / 8;
const heldShare = 0.2;

interface Waiter {
  readonly state: string;
  readonly start: () => void;
  readonly fail: (failure: Failure) => void;
}

/**
 * Decides whose step runs next on one engine. Steps of runs that share a state (checkpoint and stack) run in order of arrival without a refit between them.
 * When other states wait, a state keeps the engine for `turnMs` at most, then the state that has waited longest gets it: no run starves, and a refit is paid
 * per turn, not per step.
 */
export class Turns {
  readonly #options: TurnOptions;
  /** In order of arrival. */
  #waiting: Waiter[] = [];
  /** Open runs by state: the engine is only held for a state that somebody may still step on. */
  readonly #runs = new Map<string, number>();
  /** When the last run of a state ended, for states that may still come back within the grace. */
  readonly #endedAt = new Map<string, number>();
  /** Share of runs after which their state came back within the grace: clients that make picture after picture with one stack. */
  #returnShare = 0;
  #current: string | null = null;
  /** Infinite until the weights of the present state are there. */
  #turnEnds = Infinity;
  #busy = false;
  /** When the last work on the engine ended. */
  #idleSince = -Infinity;
  #holding: NodeJS.Timeout | null = null;

  constructor(options: TurnOptions) {
    this.#options = options;
  }

  /** State whose weights the engine has, or is being given. */
  get current(): string | null {
    return this.#current;
  }
  get waiting(): number {
    return this.#waiting.length;
  }

  /** A run of this state begins; the answer ends it. */
  open(state: string): () => void {
    this.#noteReturn(state);
    this.#runs.set(state, (this.#runs.get(state) ?? 0) + 1);
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      const left = (this.#runs.get(state) ?? 1) - 1;
      if (left > 0) this.#runs.set(state, left);
      else this.#noteEnd(state);
      this.#next();
    };
  }

  #noteReturn(state: string): void {
    this.#settleReturns();
    if (this.#endedAt.delete(state)) this.#returnShare += (1 - this.#returnShare) * returnWeight;
  }

  #noteEnd(state: string): void {
    this.#settleReturns();
    this.#runs.delete(state);
    this.#endedAt.set(state, this.#options.nowMs());
  }

  /** Those whose grace is over have not come back. */
  #settleReturns(): void {
    const since = this.#options.nowMs() - this.#options.graceMs;
    for (const [state, endedAt] of this.#endedAt)
      if (endedAt < since && this.#endedAt.delete(state)) this.#returnShare -= this.#returnShare * returnWeight;
  }

  /** The engine is held between two steps of a run; between two runs where the next one most likely comes at once. */
  #isHeld(state: string): boolean {
    return this.#runs.has(state) || (this.#endedAt.has(state) && this.#returnShare >= heldShare);
  }

  /** Runs `work` alone on the engine when its turn comes; `work` calls `ready` when the weights are there, with what their refit took. Throws STEP_QUEUE_FULL at once, HOST_CANCELLED when `signal` fires while it waits. */
  async run<T>(state: string, work: (ready: (refitMs: number) => void) => Promise<T>, signal?: AbortSignal): Promise<T> {
    await this.#enter(state, signal);
    try {
      return await work((refitMs) => this.#beginTurn(refitMs));
    } finally {
      // Work that failed before its weights were there has no turn to keep.
      if (this.#turnEnds === Infinity) this.#turnEnds = this.#options.nowMs();
      this.#busy = false;
      this.#idleSince = this.#options.nowMs();
      this.#next();
    }
  }

  #enter(state: string, signal: AbortSignal | undefined): Promise<void> {
    if (this.#waiting.length >= this.#options.maxWaiting) {
      return Promise.reject(
        new Failure(
          "STEP_QUEUE_FULL",
          `expected at most ${this.#options.maxWaiting} waiting steps on one engine; try again when others have finished`,
          { waiting: this.#waiting.length },
        ),
      );
    }
    return new Promise((resolve, reject) => {
      const cancel = (): void => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter);
        waiter.fail(new Failure("HOST_CANCELLED", "the step was cancelled while it waited; nothing was computed"));
      };
      const settle = (end: () => void): void => {
        signal?.removeEventListener("abort", cancel);
        end();
      };
      const waiter: Waiter = { state, start: () => settle(resolve), fail: (failure) => settle(() => reject(failure)) };
      if (signal?.aborted === true) return cancel();
      signal?.addEventListener("abort", cancel, { once: true });
      this.#waiting.push(waiter);
      this.#next();
    });
  }

  #beginTurn(refitMs: number): void {
    if (this.#turnEnds !== Infinity) return;
    this.#turnEnds = this.#options.nowMs() + Math.max(this.#options.turnMs(), keepFactor * refitMs);
  }

  #next(): void {
    if (this.#busy) return;
    if (this.#holding !== null) clearTimeout(this.#holding);
    this.#holding = null;
    const first = this.#waiting[0];
    if (first === undefined) return;
    const own = this.#waiting.find((waiter) => waiter.state === this.#current);
    const others = this.#waiting.some((waiter) => waiter.state !== this.#current);
    const now = this.#options.nowMs();
    const left = this.#turnEnds - now;
    const grace = this.#idleSince + this.#options.graceMs - now;
    if (own !== undefined && (!others || left > 0)) return this.#start(own);
    if (own === undefined && left > 0 && grace > 0 && this.#current !== null && this.#isHeld(this.#current)) {
      // The sampler of the present state is between two steps, or its client between two pictures; switching now would cost two refits each time.
      this.#holding = setTimeout(() => this.#switch(), Math.min(left, grace));
      return;
    }
    this.#switch();
  }

  /** Gives the engine to the state whose oldest step has waited longest. */
  #switch(): void {
    this.#holding = null;
    if (this.#busy) return;
    const next = this.#waiting.find((waiter) => waiter.state !== this.#current) ?? this.#waiting[0];
    if (next !== undefined) this.#start(next);
  }

  #start(waiter: Waiter): void {
    this.#waiting = this.#waiting.filter((other) => other !== waiter);
    if (waiter.state !== this.#current) {
      this.#current = waiter.state;
      this.#turnEnds = Infinity;
    } else if (!this.#waiting.some((other) => other.state !== waiter.state)) {
      // Nobody else waits: the turn starts anew, and is counted from when somebody does.
      this.#turnEnds = Infinity;
    }
    this.#busy = true;
    waiter.start();
  }
}

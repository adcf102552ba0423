// Which loop begins next. In: loops that wait, each with its weights, client, priority and deadline. Out: one at a time, so that the weights are changed seldom, no client waits for
// another's whole queue, and what has a deadline comes before it. A loop that has begun is never stopped for another; steps share an engine by turns (step/turns.ts).

import { Failure } from "../failure/index.ts";

export type Priority = "high" | "normal" | "low";

export interface LoopRequest {
  /** Equal for loops on the same weights. */
  readonly group: string;
  readonly client: string;
  readonly priority: Priority;
  /** On the clock of `nowMs`; null: none. */
  readonly deadlineMs: number | null;
}

export interface AdmissionOptions {
  /** Engines that run loops at the same time: one for each device. */
  readonly places: () => number;
  /** How long loops of one group keep a place while others wait. Never less than six times what the change to it took. */
  readonly turnMs: () => number;
  readonly maxWaiting: number;
  readonly nowMs: () => number;
}

export interface Admitted {
  /** The weights are there, after a refit of so long. */
  readonly prepared: (ms: number) => void;
  readonly end: () => void;
}

/** Two loops of one group at a time: while one's latents are changed, the other's step runs. */
const perPlace = 2;
const keepFactor = 6;
/** One whose deadline is nearer than so many turns comes before all others of its priority. */
const urgentTurns = 2;
/** What a client has had counts half after this time. */
const halfLifeMs = 60_000;
const ranks = { high: 0, normal: 1, low: 2 } as const satisfies Record<Priority, number>;

interface Waiter {
  readonly request: LoopRequest;
  readonly number: number;
  readonly start: (place: Place) => void;
}

interface Place {
  group: string | null;
  sinceMs: number;
  turnMs: number;
  running: number;
}

interface Candidate {
  readonly waiter: Waiter;
  readonly place: Place;
  /** Priority, deadline where it is near, whether the weights are there, what the client has had, arrival: the first difference decides, and the last one is always there. */
  readonly key: readonly number[];
}

function isLess(key: readonly number[], other: readonly number[]): boolean {
  const at = key.findIndex((value, index) => value !== other[index]);
  return at >= 0 && (key[at] ?? 0) < (other[at] ?? 0);
}

/** Asks once for each. */
function remembered<Of, Value>(ask: (of: Of) => Value): (of: Of) => Value {
  const known = new Map<Of, Value>();
  return (of) => {
    if (!known.has(of)) known.set(of, ask(of));
    return known.get(of) as Value;
  };
}

export class Admission {
  readonly #options: AdmissionOptions;
  #waiting: Waiter[] = [];
  readonly #places: Place[] = [];
  readonly #had = new Map<string, { ms: number; atMs: number }>();
  #count = 0;

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Resolves when the loop may begin; `end` has to follow. Throws STEP_QUEUE_FULL at once, HOST_CANCELLED when `signal` fires while it waits. */
  async enter(request: LoopRequest, signal: AbortSignal): Promise<Admitted> {
    const { nowMs, maxWaiting } = this.#options;
    if (this.#waiting.length >= maxWaiting)
      throw new Failure("STEP_QUEUE_FULL", `expected at most ${maxWaiting} waiting loops; try again when others have finished`, {});
    const place = await new Promise<Place>((resolve, reject) => {
      const cancel = (): void => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter);
        reject(new Failure("HOST_CANCELLED", "the loop was cancelled while it waited; nothing was computed", {}));
      };
      const start = (to: Place): void => {
        signal.removeEventListener("abort", cancel);
        resolve(to);
      };
      this.#count += 1;
      const waiter: Waiter = { request, number: this.#count, start };
      if (signal.aborted) return cancel();
      signal.addEventListener("abort", cancel, { once: true });
      this.#waiting.push(waiter);
      this.#next();
    });
    const startedMs = nowMs();
    let isOpen = true;
    return {
      prepared: (ms) => void (place.turnMs = Math.max(place.turnMs, keepFactor * ms)),
      end: () => {
        if (!isOpen) return;
        isOpen = false;
        place.running -= 1;
        this.#note(request.client, nowMs() - startedMs);
        this.#next();
      },
    };
  }

  #share(client: string, nowMs: number): number {
    const had = this.#had.get(client);
    return had === undefined ? 0 : had.ms * 2 ** ((had.atMs - nowMs) / halfLifeMs);
  }

  #note(client: string, ms: number): void {
    const atMs = this.#options.nowMs();
    this.#had.set(client, { ms: this.#share(client, atMs) + ms, atMs });
    // Who has had nothing for ten half-lives counts as new.
    for (const [name, had] of this.#had) if (atMs - had.atMs > 10 * halfLifeMs) this.#had.delete(name);
  }

  /** Starts what may start, best first. */
  #next(): void {
    const { places } = this.#options;
    const count = Math.max(1, places());
    while (this.#places.length < count) this.#places.push({ group: null, sinceMs: 0, turnMs: 0, running: 0 });
    // A device that went away takes no more loops; those on it end by themselves.
    const open = this.#places.slice(0, count);
    for (let best = this.#best(open); best !== null; best = this.#best(open)) this.#start(best.waiter, best.place);
  }

  /** Of those that can begin now, the one whose key is least. */
  #best(open: readonly Place[]): Candidate | null {
    const nowMs = this.#options.nowMs();
    const urgentMs = urgentTurns * this.#options.turnMs();
    const placeOf = remembered((group: string) => {
      const place = this.#placeFor(group, open);
      return place === null ? null : { place, hasWeights: place.group === group && this.#keeps(place, this.#places) };
    });
    const shareOf = remembered((client: string) => this.#share(client, nowMs));
    let best: Candidate | null = null;
    for (const waiter of this.#waiting) {
      const { group, client, priority, deadlineMs } = waiter.request;
      const found = placeOf(group);
      if (found === null) continue;
      const key = [
        ranks[priority],
        deadlineMs === null || deadlineMs - nowMs > urgentMs ? Infinity : deadlineMs,
        found.hasWeights ? 0 : 1,
        shareOf(client),
        waiter.number,
      ];
      if (best === null || isLess(key, best.key)) best = { waiter, place: found.place, key };
    }
    return best;
  }

  /** Where a loop can begin now: beside loops of its group, where their turn is not over, or where nobody runs. */
  #placeFor(group: string, open: readonly Place[]): Place | null {
    const own = open.find((place) => place.group === group && place.running < perPlace && this.#keeps(place, open));
    if (own !== undefined) return own;
    const idle = open.filter((place) => place.running === 0);
    return idle.find((place) => place.group === group) ?? idle.find((place) => place.group === null) ?? idle[0] ?? null;
  }

  /** Its turn goes on, or nobody else waits for one. */
  #keeps({ group, sinceMs, turnMs }: Place, open: readonly Place[]): boolean {
    const groups = new Set(open.map((place) => place.group));
    const others = this.#waiting.some(({ request }) => request.group !== group && !groups.has(request.group));
    return !others || this.#options.nowMs() - sinceMs < Math.max(turnMs, this.#options.turnMs());
  }

  #start(waiter: Waiter, place: Place): void {
    this.#waiting = this.#waiting.filter((other) => other !== waiter);
    const isOver = !this.#keeps(place, this.#places);
    if (place.group !== waiter.request.group || isOver) {
      place.group = waiter.request.group;
      place.sinceMs = this.#options.nowMs();
      place.turnMs = 0;
    }
    place.running += 1;
    waiter.start(place);
  }
}

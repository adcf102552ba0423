// The rule of the waiting line at its plainest: of every two that can begin it is worked out anew which comes first. Held against Admission.

import type { LoopRequest } from "../../../sidecar/src/sampling/index.ts";

export interface Running {
  readonly number: number;
  readonly prepared: (ms: number) => void;
  readonly end: () => void;
}

interface Waiter {
  readonly request: LoopRequest;
  readonly number: number;
}

interface Place {
  group: string | null;
  sinceMs: number;
  turnMs: number;
  running: number;
}

const ranks = { high: 0, normal: 1, low: 2 };

/** `began` is told of each loop, in order. */
export function naiveAdmission(placeCount: () => number, turnMs: number, nowMs: () => number, began: (loop: Running) => void) {
  let waiting: Waiter[] = [];
  const places: Place[] = [];
  const had = new Map<string, { ms: number; atMs: number }>();
  let count = 0;

  const share = (client: string): number => {
    const own = had.get(client);
    return own === undefined ? 0 : own.ms * 2 ** ((own.atMs - nowMs()) / 60_000);
  };
  function keeps(place: Place, among: readonly Place[]): boolean {
    const others = waiting.some(({ request: { group } }) => group !== place.group && !among.some((other) => other.group === group));
    return !others || nowMs() - place.sinceMs < Math.max(place.turnMs, turnMs);
  }
  function placeFor(group: string): Place | undefined {
    const open = places.slice(0, placeCount());
    const idle = open.filter(({ running }) => running === 0);
    return (
      open.find((place) => place.group === group && place.running < 2 && keeps(place, open)) ??
      idle.find((place) => place.group === group) ??
      idle.find((place) => place.group === null) ??
      idle[0]
    );
  }
  function compare(a: Waiter, b: Waiter): number {
    const urgent = ({ request: { deadlineMs } }: Waiter): number =>
      deadlineMs === null || deadlineMs - nowMs() > 2 * turnMs ? Infinity : deadlineMs;
    const fits = ({ request: { group } }: Waiter): number => {
      const place = placeFor(group);
      return place !== undefined && place.group === group && keeps(place, places) ? 0 : 1;
    };
    return (
      ranks[a.request.priority] - ranks[b.request.priority] ||
      (urgent(a) === urgent(b) ? 0 : urgent(a) - urgent(b)) ||
      fits(a) - fits(b) ||
      share(a.request.client) - share(b.request.client) ||
      a.number - b.number
    );
  }

  function next(): void {
    while (places.length < placeCount()) places.push({ group: null, sinceMs: 0, turnMs: 0, running: 0 });
    for (;;) {
      const able = waiting.filter(({ request }) => placeFor(request.group) !== undefined);
      if (able.length === 0) return;
      const first = able.reduce((best, other) => (compare(best, other) < 0 ? best : other));
      const { request, number } = first;
      const place = placeFor(request.group) as Place;
      waiting = waiting.filter((other) => other !== first);
      if (place.group !== request.group || !keeps(place, places))
        Object.assign(place, { group: request.group, sinceMs: nowMs(), turnMs: 0 });
      place.running += 1;
      const startedMs = nowMs();
      began({
        number,
        prepared: (ms) => void (place.turnMs = Math.max(place.turnMs, 6 * ms)),
        end() {
          place.running -= 1;
          had.set(request.client, { ms: share(request.client) + nowMs() - startedMs, atMs: nowMs() });
          next();
        },
      });
    }
  }
  return {
    enter(request: LoopRequest): void {
      count += 1;
      waiting.push({ request, number: count });
      next();
    },
  };
}

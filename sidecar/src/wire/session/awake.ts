// A sampler's next step comes a few milliseconds after the last one's answer. A process that sleeps meanwhile takes a tenth of a millisecond to be woken, one
// that keeps looking does not.

import { availableParallelism } from "node:os";

/** A sampler's own work between two steps takes 2 to 5 ms. */
const awakeMs = 6;
/** With fewer processors the one that looks would be missed by the sampler itself. */
const leastCores = 8;

export interface AwakeParts {
  readonly cores: number;
  readonly nowMs: () => number;
  /** Calls back after everything that has arrived was looked at. */
  readonly next: (look: () => void) => void;
}

/** The function that keeps the event loop from sleeping for a moment, from now on. */
export function createAwake({ cores, nowMs, next }: AwakeParts): () => void {
  let until = -Infinity;
  let looking = false;
  const look = (): void => {
    looking = nowMs() < until;
    if (looking) next(look);
  };
  return () => {
    if (cores < leastCores) return;
    until = nowMs() + awakeMs;
    if (looking) return;
    looking = true;
    next(look);
  };
}

export const stayAwake = createAwake({
  cores: availableParallelism(),
  nowMs: () => performance.now(),
  next: (look) => void setImmediate(look),
});

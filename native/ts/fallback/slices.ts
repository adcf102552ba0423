import { setImmediate as nextTurn } from "node:timers/promises";

/** A slice of work between two turns of the event loop; well under the 50 ms that a client would notice. */
const sliceMs = 15;

/**
 * Calls `work(start, end)` over [0, total) in blocks, giving the event loop a turn whenever a slice of time is used up.
 * Rejects with the signal's reason when aborted; blocks done by then stay done.
 */
export async function inSlices(
  total: number,
  blockSize: number,
  signal: AbortSignal | undefined,
  work: (start: number, end: number) => void,
): Promise<void> {
  signal?.throwIfAborted();
  let sliceStart = performance.now();
  for (let start = 0; start < total; start += blockSize) {
    if (performance.now() - sliceStart > sliceMs) {
      await nextTurn();
      signal?.throwIfAborted();
      sliceStart = performance.now();
    }
    work(start, Math.min(total, start + blockSize));
  }
}

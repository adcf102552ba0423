// Work that has to be done in a time.

import { Failure } from "../../failure/index.ts";

/** Throws SAMPLE_DEADLINE when the time is over first; the work hears of it through its signal, and is waited for. */
export async function inTime<T>(
  deadlineMs: number | undefined,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  if (deadlineMs === undefined) return work(signal);
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), deadlineMs);
  try {
    return await work(AbortSignal.any([signal, over.signal]));
  } catch (error) {
    if (over.signal.aborted && !signal.aborted)
      throw new Failure(
        "SAMPLE_DEADLINE",
        `the pictures were not made within ${deadlineMs} ms; the loop was ended`,
        { deadlineMs },
        { cause: error },
      );
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

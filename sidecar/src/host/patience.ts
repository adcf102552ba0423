// Waiting for hosts that are away: of a request that looks for a place, of a step that was lost, and of whoever asks for a host.

import { setTimeout as pause } from "node:timers/promises";

const lookMs = 200;

/** Until it is worth a look whether hosts are back. With a signal, which ends it at once by an AbortError, it keeps no process alive. */
export const nextLook = (signal?: AbortSignal): Promise<void> =>
  pause(lookMs, undefined, signal === undefined ? {} : { signal, ref: false });

/** Whether a request still waits while hosts end under it or are away: from now on for so long (`EngineProvider.patienceMs`). */
export function patienceFor(ms: number, nowMs: () => number): () => boolean {
  const untilMs = nowMs() + ms;
  return () => nowMs() < untilMs;
}

// A program that nobody waits for stands back behind everything else that wants the processor, until somebody waits for it.

import { readdirSync } from "node:fs";
import { constants, setPriority } from "node:os";

/** Throws where the system refuses it. */
export type SetPriority = (pid: number, priority: number) => void;
/** Starts the program and tells its number as soon as it has one. Rejects when the signal ends the program. */
export type Start<Result> = (signal: AbortSignal, started: (pid: number) => void) => Promise<Result>;

/**
 * The program's result. Before `until` it runs at the lowest priority. Then it comes forward; a user without the rights to raise a priority (Linux, macOS)
 * gets the program begun anew, because at the lowest priority a busy UI may keep it from ever ending. Without `until` it runs as any other.
 */
export async function standingBack<Result>(
  start: Start<Result>,
  until: Promise<void> | undefined,
  signal: AbortSignal,
  setTo: SetPriority = setPriorityOfAll,
): Promise<Result> {
  if (until === undefined) return start(signal, () => undefined);
  const anew = new AbortController();
  let running: number | null = null;
  let isAwaited = false;
  const change = (pid: number, priority: number): boolean => {
    try {
      setTo(pid, priority);
      return true;
    } catch {
      // It ended already, or the system does not allow it.
      return false;
    }
  };
  const comeForward = (): void => {
    isAwaited = true;
    if (running !== null && !change(running, constants.priority.PRIORITY_NORMAL)) anew.abort();
  };
  void until.then(comeForward);
  try {
    return await start(AbortSignal.any([signal, anew.signal]), (pid) => {
      // A program that could not be put back has nothing to come forward from.
      if (!isAwaited && change(pid, constants.priority.PRIORITY_LOW)) running = pid;
    });
  } catch (error) {
    if (!anew.signal.aborted || signal.aborted) throw error;
  } finally {
    running = null;
  }
  return start(signal, () => undefined);
}

/** Linux keeps a priority for every thread. */
function setPriorityOfAll(pid: number, priority: number): void {
  setPriority(pid, priority);
  if (process.platform !== "linux") return;
  for (const thread of readdirSync(`/proc/${pid}/task`)) setPriority(Number(thread), priority);
}

// After a start: brings the last used stacks to an engine, each as soon as its files are in the catalog (a disk may be slow, a folder mounted late).

import type { JobContext, Scheduler } from "../../jobs/index.ts";
import type { Log } from "../../telemetry/index.ts";
import type { LeaseRequest } from "../open-lease.ts";

export interface WarmLastParts {
  /** Every file of the request is there. */
  readonly known: (request: LeaseRequest) => boolean;
  readonly jobs: Scheduler;
  readonly log: Log;
  readonly warm: (request: LeaseRequest, context: Pick<JobContext, "signal" | "progress">) => Promise<void>;
  /** A client has taken an engine since the start: what was used before that is no guess worth a refit any more. */
  readonly inUse: () => boolean;
}

export interface WarmLast {
  /** Newest last: it is what the engine then holds. */
  readonly start: (requests: readonly LeaseRequest[]) => void;
  /** The catalog has changed: what waited for its files may go on. */
  readonly onChange: () => void;
}

export function createWarmLast({ known, jobs, log, warm, inUse }: WarmLastParts): WarmLast {
  let waiting: readonly LeaseRequest[] = [];
  let newest: LeaseRequest | undefined;

  function submit(request: LeaseRequest): void {
    const title = request === newest ? "Warm the last used stack" : "Warm a stack used before";
    jobs
      .submit({
        key: `warm ${JSON.stringify(request)}`,
        kind: "warm",
        title,
        urgency: "lastUsed",
        run: (context) => warm(request, context),
      })
      .result.catch((error: unknown) => log.debug(`a stack could not be warmed: ${String(error)}`));
  }

  function onChange(): void {
    if (waiting.length === 0) return;
    if (inUse()) return void (waiting = []);
    // One that is warmed after a newer one would take the engine from it.
    const ready = waiting.findLastIndex(known);
    const now = waiting.slice(0, ready + 1).filter(known);
    waiting = waiting.slice(ready + 1);
    now.forEach(submit);
  }

  return {
    start(requests) {
      waiting = requests;
      newest = requests.at(-1);
      onChange();
    },
    onChange,
  };
}

// Weights on their way while the client still makes its prompt ready. Never in anybody's way: only on an engine that is free and that nobody else has touched since
// this client's own last lease. A wrong guess costs that client one refit; every step asks for its own weights anyway.

import { placedKey } from "../refit/index.ts";
import type { EngineLeases, LeaseOpenerParts, LeaseRequest } from "./open-lease.ts";
import type { PlacedEngine, PlacedEngines } from "./placing/placed-engines.ts";

export interface BringAheadParts extends Pick<LeaseOpenerParts, "resolve" | "specOf"> {
  readonly leases: EngineLeases;
  readonly engines: Pick<PlacedEngines, "get" | "acquire">;
  /** The engine whose weights a lease was the last to ask for, whether it has ended or not; null when another one came after it. */
  readonly broughtLast: (lease: string) => string | null;
}

/** `after`: the client's last lease. False: deltas are ready now, and that is all. Throws what opening a lease throws. */
export type BringAhead = (request: LeaseRequest, after: string, signal?: AbortSignal) => Promise<boolean>;

export function createBringAhead({ leases, engines, broughtLast, resolve, specOf }: BringAheadParts): BringAhead {
  /** The engine that the lease was on, if it is free since. */
  function freeSince(after: string): PlacedEngine | null {
    const id = broughtLast(after);
    const engine = id === null ? null : engines.get(id);
    return leases.stays().some((stay) => stay.engine === id) ? null : engine;
  }

  return async (request, after, signal) => {
    // Also where nothing else may be done: what a file holds is the same for everybody.
    const resolved = await resolve(request, signal);
    const served = await specOf(resolved, request, signal);
    const { wanted } = resolved;
    const engine = freeSince(after);
    const isItsOwn =
      engine !== null &&
      placedKey(served.spec, engine.device) === engine.id &&
      engine.wanted?.desired.checkpoint === wanted.desired.checkpoint;
    if (!isItsOwn) return false;
    const { engine: taken, release } = await engines.acquire(served.spec, engine.device);
    if (freeSince(after) !== taken) {
      release();
      return false;
    }
    const origin = { request, whenReplaced: "keep" as const, resolved, ...served };
    const lease = await leases.open({ engine: taken, release, wanted, origin }, signal === undefined ? {} : { signal });
    lease.end();
    return true;
  };
}

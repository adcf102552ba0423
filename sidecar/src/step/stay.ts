import { Failure } from "../failure/index.ts";
import { stateKey } from "../plan/index.ts";
import type { EngineLease, LiveEngine } from "../refit/index.ts";
import type { Wanted } from "../refit/types.ts";
import type { Turns } from "./turns.ts";

export type Engine = Pick<LiveEngine, "id" | "bring" | "refitMs" | "step" | "share">;

/** An engine that a lease takes over, and the weights that it wants there. */
export interface Place<Origin> extends Pick<EngineLease, "release"> {
  readonly engine: Engine;
  readonly wanted: Wanted;
  /** What it was made from; the lease keeps it for whoever asks. */
  readonly origin: Origin;
}

/** What a run does at an engine, for whoever decides where the next one goes. */
export interface StayLook {
  readonly engine: string;
  /** `stateKey` of its weights. */
  readonly state: string;
  /** Since its last work ended; 0 while it works or waits. */
  readonly idleMs: number;
}

export const ended = () =>
  new Failure("STEP_RUN_CLOSED", "this lease has ended (released, or not used for ten minutes); prepare again", {});

/** A lease's time at one place. */
export interface Stay<Origin> {
  readonly place: Place<Origin>;
  readonly inTurn: <T>(work: (ready: (refitMs: number) => void) => Promise<T>, signal: AbortSignal | undefined) => Promise<T>;
  readonly isBusy: () => boolean;
  readonly look: () => StayLook;
  /** The engine goes back when what runs has ended. */
  readonly leave: () => void;
}

export function stayAt<Origin>(place: Place<Origin>, turns: Turns, nowMs: () => number, left: () => void): Stay<Origin> {
  const state = stateKey(place.wanted.desired);
  const leaveTurns = turns.open(state);
  let active = 0;
  let workedMs = nowMs();
  let leaving = false;
  const giveBack = () => {
    leaveTurns();
    left();
    place.release();
  };
  return {
    place,
    isBusy: () => active > 0,
    look: () => ({ engine: place.engine.id, state, idleMs: active > 0 ? 0 : nowMs() - workedMs }),
    async inTurn(work, signal) {
      if (leaving) throw ended();
      active += 1;
      try {
        return await turns.run(state, work, signal);
      } finally {
        active -= 1;
        workedMs = nowMs();
        if (leaving && active === 0) giveBack();
      }
    },
    leave() {
      if (leaving) return;
      leaving = true;
      if (active === 0) giveBack();
    },
  };
}

// The unanswered calls of one session: their ids, abort signals and bytes. A cancelled call is answered at once, but counts until its work has ended.

import type { RequestId } from "@refit-sidecar/protocol";
import { Failure } from "../../failure/index.ts";

export interface OpenCall {
  readonly id: RequestId;
  readonly signal: AbortSignal;
  /** The work has ended, whatever its outcome. */
  readonly end: () => void;
  /** True once: whoever gets it sends the answer. */
  readonly claimAnswer: () => boolean;
  /** Cancelled or not, the answer now waits for the work: it is about to write where the client allowed it to until it is answered. */
  readonly holdAnswer: () => void;
  readonly held: () => boolean;
}

export interface Calls {
  /** Throws WIRE_ID_IN_USE or, unless the call is one that is answered at once, WIRE_BUSY. */
  readonly begin: (id: RequestId, bytes: number, answeredAtOnce?: boolean) => OpenCall;
  /** Aborts a call; true when it had not been answered. */
  readonly cancel: (id: RequestId) => boolean;
  readonly cancelAll: () => void;
  readonly bytes: () => number;
}

export function createCalls(maxOpen: number): Calls {
  const open = new Map<RequestId, AbortController>();
  let working = 0;
  let bytes = 0;
  return {
    begin(id, callBytes, answeredAtOnce = false) {
      if (open.has(id)) throw new Failure("WIRE_ID_IN_USE", "expected an id that no unanswered call of this session has");
      if (working >= maxOpen && !answeredAtOnce)
        throw new Failure("WIRE_BUSY", `expected at most ${maxOpen} unanswered calls in a session; wait for answers`);
      const controller = new AbortController();
      open.set(id, controller);
      working += 1;
      bytes += callBytes;
      let ended = false;
      let held = false;
      return {
        id,
        signal: controller.signal,
        end() {
          if (ended) return;
          ended = true;
          working -= 1;
          bytes -= callBytes;
        },
        holdAnswer() {
          held = true;
        },
        held: () => held,
        claimAnswer() {
          // The same id may by now belong to a later call.
          if (open.get(id) !== controller) return false;
          open.delete(id);
          return true;
        },
      };
    },
    cancel(id) {
      const controller = open.get(id);
      controller?.abort();
      return controller !== undefined;
    },
    cancelAll() {
      for (const controller of open.values()) controller.abort();
    },
    bytes: () => bytes,
  };
}

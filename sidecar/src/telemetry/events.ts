// The event stream that the pages, the plugins and the demo's timeline are fed from.

/** How an engine serves, by its host's own word. Errors are relative. */
export interface Serving {
  readonly tier: string;
  readonly refused: readonly { readonly steps: string; readonly reason: string }[];
  readonly base: string;
  readonly deviceBytes: number;
  readonly streamedBytes: number;
  readonly quantised: {
    readonly format: string;
    readonly way: string;
    readonly weightError: number;
    readonly outputError: number | null;
  } | null;
}

export type SidecarEvent =
  | { readonly type: "arrival.settled"; readonly id: string; readonly kind: "adapter" | "checkpoint"; readonly waitedMs: number }
  | { readonly type: "arrival.refused"; readonly id: string; readonly code: string; readonly message: string }
  | {
      readonly type: "catalog.changed";
      readonly generation: number;
      readonly added: readonly string[];
      readonly changed: readonly string[];
      readonly removed: readonly string[];
    }
  | {
      readonly type: "delta.ready";
      readonly id: string;
      readonly ms: number;
      readonly bytes: number;
      readonly terms: number;
      readonly cached: boolean;
    }
  | { readonly type: "delta.failed"; readonly id: string; readonly code: string; readonly message: string }
  | { readonly type: "refit.started"; readonly engine: string; readonly full: boolean; readonly writes: number }
  | {
      readonly type: "refit.committed";
      readonly engine: string;
      readonly ms: number;
      readonly writes: number;
      readonly bytes: number;
      readonly stack: readonly { readonly id: string; readonly strength: number }[];
    }
  | { readonly type: "refit.failed"; readonly engine: string; readonly code: string; readonly message: string }
  | { readonly type: "engine.state"; readonly engine: string; readonly state: string; readonly reason: string | null }
  | { readonly type: "engine.serving"; readonly engine: string; readonly serving: Serving }
  | { readonly type: "host.crashed"; readonly engine: string; readonly message: string }
  | { readonly type: "live.deleted" | "live.replaced"; readonly id: string; readonly message: string };

export interface StampedEvent {
  /** Monotonic milliseconds since the process started. */
  readonly atMs: number;
  /** Wall clock, ISO 8601, for people. */
  readonly at: string;
  readonly event: SidecarEvent;
}

export interface Events {
  readonly emit: (event: SidecarEvent) => void;
  /** Returns the function that ends the subscription. A listener that throws is dropped and reported, the others go on. */
  readonly subscribe: (listener: (event: StampedEvent) => void) => () => void;
  /** The last events, oldest first. */
  readonly history: () => readonly StampedEvent[];
}

/** Enough for the pages' history lists; about 200 KB at most. */
const historyLength = 500;

export function createEvents(onListenerError: (error: unknown) => void, nowMs: () => number = () => performance.now()): Events {
  const listeners = new Set<(event: StampedEvent) => void>();
  const history: StampedEvent[] = [];
  return {
    emit(event) {
      const stamped = { atMs: nowMs(), at: new Date().toISOString(), event };
      history.push(stamped);
      if (history.length > historyLength) history.shift();
      for (const listener of listeners) {
        try {
          listener(stamped);
        } catch (error) {
          listeners.delete(listener);
          onListenerError(error);
        }
      }
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    history: () => history.slice(),
  };
}

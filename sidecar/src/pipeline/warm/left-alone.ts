// Engines leave the memory when nobody is there to use them: no client is connected, and nothing was asked for a while.

export interface LeftAloneParts {
  /** Clients that are connected now. */
  readonly clients: () => number;
  /** A run is open, or a live folder wants its engine. */
  readonly inUse: () => boolean;
  /** How long nobody has to be there; 0: engines stay. Asked every time: configuration is reloaded. */
  readonly afterMs: () => number;
  /** Unloads every engine; answers how many there were. */
  readonly free: () => Promise<number>;
  readonly told: (text: string) => void;
  readonly nowMs?: () => number;
}

export interface LeftAlone {
  /** To be called every few seconds. */
  readonly look: () => Promise<void>;
}

export function createLeftAlone({ clients, inUse, afterMs, free, told, nowMs = () => performance.now() }: LeftAloneParts): LeftAlone {
  let seenMs = nowMs();
  return {
    async look() {
      if (clients() > 0 || inUse() || afterMs() === 0) {
        seenMs = nowMs();
        return;
      }
      if (nowMs() - seenMs < afterMs()) return;
      seenMs = nowMs();
      const count = await free();
      if (count > 0)
        told(
          `no client was connected for ${Math.round(afterMs() / 1000)} s: ${count} engine${count === 1 ? "" : "s"} left the memory; the next request loads what it needs`,
        );
    },
  };
}

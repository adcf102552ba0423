import { Failure } from "../failure/index.ts";
import type { LiveEngine } from "./live-engine.ts";

/** The first attempt writes every weight again, the second builds the engine anew, at once; what neither cures has a cause that takes time to go (a file that is away, a disk, memory). */
const pausesMs = [0, 0, 5_000, 30_000, 120_000, 600_000] as const;

/** The host is gone or cannot be started: its next start begins the repair again. */
const hostCodes: ReadonlySet<string> = new Set(["HOST_LOST", "HOST_START_FAILED", "HOST_CLOSED", "HOST_NOT_CONFIGURED"]);

/** Brings engines that are UNKNOWN back in the background, one repair per engine at a time. Runs that want the engine meanwhile fail or succeed by themselves. */
export class Repair {
  readonly #isOurs: (engine: LiveEngine) => boolean;
  readonly #pause: (ms: number) => Promise<void>;
  readonly #running = new Set<LiveEngine>();

  /** `isOurs`: the engine has not been freed. */
  constructor(isOurs: (engine: LiveEngine) => boolean, pause: (ms: number) => Promise<void> = unrefPause) {
    this.#isOurs = isOurs;
    this.#pause = pause;
  }

  begin(engine: LiveEngine): void {
    if (this.#running.has(engine)) return;
    this.#running.add(engine);
    void this.#run(engine).finally(() => this.#running.delete(engine));
  }

  /** Every failure is in the history and in the engine's state. */
  async #run(engine: LiveEngine): Promise<void> {
    for (const [attempt, pauseMs] of pausesMs.entries()) {
      if (pauseMs > 0) await this.#pause(pauseMs);
      if (!this.#isOurs(engine) || engine.state.state !== "UNKNOWN") return;
      try {
        if (attempt > 0) await engine.rebuild();
        else await engine.recover();
        return;
      } catch (error) {
        if (error instanceof Failure && hostCodes.has(error.code)) return;
      }
    }
  }
}

const unrefPause = (ms: number): Promise<void> => new Promise((resolve) => void setTimeout(resolve, ms).unref());

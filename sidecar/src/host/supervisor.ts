import { Failure } from "../failure/index.ts";
import type { Host, HostExit } from "./types.ts";

export interface SupervisorEvents {
  /** The host is up (again). What it held before is gone. */
  readonly onUp: (host: Host) => void;
  /** It ended, or did not start. `wasAsked`: it was expected to end. */
  readonly onDown: (why: {
    readonly message: string;
    readonly exit: HostExit | null;
    readonly retryInMs: number;
    readonly wasAsked: boolean;
  }) => void;
}

export interface SupervisorStatus {
  readonly state: "stopped" | "starting" | "up" | "waiting";
  readonly pid: number | null;
  /** What it runs on, by its own word; null while it is down. */
  readonly device: string | null;
  readonly restarts: number;
  readonly lastProblem: string | null;
  /** Process that waits to take its place. */
  readonly sparePid: number | null;
}

/** The first two restarts are immediate, because a run is waiting; a host that keeps dying before it has loaded anything is tried ever more rarely. */
const firstDelaysMs = [0, 0, 250, 1_000, 4_000] as const;
const maxDelayMs = 15_000;
/** Up for this long, its earlier deaths are forgotten; less for one that has loaded an engine. */
const healthyMs = 60_000;
const healthyWorkingMs = 2_000;
/** Deaths that still count once a host has loaded an engine: it can work, so whoever waits for it is not kept waiting longer than a quarter of a second. */
const deathsOfWorking = 2;
/** Where hosts end because what they run in ends: the longest pause before the next start. */
const patientDelayMs = 250;

/** A spare is started when the host has had nothing to do for so long, because its start slows steps down; one that never rests gets its spare after a minute. */
const spareIdleMs = 2_000;
const spareLatestMs = 60_000;
const spareLookMs = 500;

/**
 * Keeps one host process alive: starts it on first use, restarts it with back-off when it dies, ends it on close. Where `keepsSpare` says so, a second process
 * waits idle and takes the place of one that died.
 */
export class HostSupervisor {
  readonly #start: () => Promise<Host>;
  readonly #events: SupervisorEvents;
  readonly #keepsSpare: (host: Host | null) => boolean;
  readonly #isPatient: boolean;
  #worked = false;
  #spare: Host | null = null;
  #startingSpare: Promise<void> | null = null;
  #spareTimer: NodeJS.Timeout | null = null;
  #state: SupervisorStatus["state"] = "stopped";
  #host: Host | null = null;
  #starting: Promise<Host> | null = null;
  #timer: NodeJS.Timeout | null = null;
  #deaths = 0;
  #restarts = 0;
  #upSince = 0;
  #lastProblem: string | null = null;
  #expectsEnd = false;
  #closed = false;

  /** `isPatient`: hosts end because what they run in comes and goes; whoever asks for one waits for the next. */
  constructor(
    start: () => Promise<Host>,
    events: SupervisorEvents,
    keepsSpare: (host: Host | null) => boolean = () => false,
    isPatient = false,
  ) {
    this.#start = start;
    this.#events = events;
    this.#keepsSpare = keepsSpare;
    this.#isPatient = isPatient;
  }

  get status(): SupervisorStatus {
    return {
      state: this.#state,
      pid: this.#host?.pid ?? null,
      device: this.#host?.about.device.name ?? null,
      restarts: this.#restarts,
      lastProblem: this.#lastProblem,
      sparePid: this.#spare?.pid ?? null,
    };
  }

  /** Null while it is down or starting. */
  get running(): Host | null {
    return this.#host?.gone() === false ? this.#host : null;
  }

  /** The running host; starts it when there is none. During back-off it fails at once with HOST_START_FAILED, so that a caller can fall back; a patient one waits. */
  async host(): Promise<Host> {
    // A call can fail a moment before the end of its host is known here; the next one must not run into the same corpse.
    if (this.#host?.gone() === true || this.#expectsEnd) await this.#host?.ended;
    if (this.#host !== null) return this.#host;
    if (this.#closed) throw new Failure("HOST_CLOSED", "the sidecar is ending; no engine host is started any more");
    if (this.#timer !== null && this.#isPatient) {
      await new Promise((resolve) => setTimeout(resolve, patientDelayMs));
      return this.host();
    }
    if (this.#timer !== null)
      throw new Failure(
        "HOST_START_FAILED",
        `the engine host keeps ending (${this.#lastProblem ?? "unknown reason"}); it is tried again shortly`,
        { restarts: this.#restarts },
      );
    return this.#begin();
  }

  #begin(): Promise<Host> {
    this.#starting ??= this.#bringUp();
    return this.#starting;
  }

  async #bringUp(): Promise<Host> {
    this.#state = "starting";
    this.#timer = null;
    let host: Host;
    try {
      host = await (this.#takeSpare() ?? this.#start());
    } catch (error) {
      this.#starting = null;
      const message = error instanceof Error ? error.message : String(error);
      // Nothing ended: there is no such host here. Whoever asks after it was installed gets it.
      if (error instanceof Failure && error.code === "HOST_NOT_CONFIGURED") {
        this.#state = "stopped";
        this.#lastProblem = message;
      } else this.#down(message, null);
      throw error;
    }
    if (this.#closed) {
      await host.close();
      throw new Failure("HOST_CLOSED", "the sidecar is ending; no engine host is started any more");
    }
    this.#starting = null;
    this.#host = host;
    this.#state = "up";
    this.#upSince = performance.now();
    this.#worked = false;
    void host.ended.then((exit) => this.#onEnded(exit));
    this.#events.onUp(host);
    return host;
  }

  #onEnded(exit: HostExit): void {
    this.#host = null;
    if (this.#closed) return;
    if (this.#expectsEnd) {
      this.#expectsEnd = false;
      this.#state = "waiting";
      this.#events.onDown({ message: "renewed", exit, retryInMs: 0, wasAsked: true });
      return void this.#begin().catch(() => undefined);
    }
    if (performance.now() - this.#upSince > (this.#worked ? healthyWorkingMs : healthyMs)) this.#deaths = 0;
    this.#down(exit.reason ?? (exit.signal === null ? `exit code ${exit.code}` : `signal ${exit.signal}`), exit);
  }

  #down(message: string, exit: HostExit | null): void {
    if (this.#closed) return;
    // A spare is up already: there is nothing to be kept from starting too often.
    const retryInMs =
      this.#spare !== null && !this.#spare.gone()
        ? 0
        : Math.min(firstDelaysMs[this.#deaths] ?? maxDelayMs, this.#isPatient ? patientDelayMs : maxDelayMs);
    this.#deaths += 1;
    this.#restarts += 1;
    this.#lastProblem = message;
    this.#state = "waiting";
    this.#events.onDown({ message, exit, retryInMs, wasAsked: false });
    // A failed start reports itself through onDown and sets the next timer.
    const again = (): void => void this.#begin().catch(() => undefined);
    // Callers that come now wait for the immediate restart instead of failing.
    if (retryInMs === 0) queueMicrotask(again);
    else this.#timer = setTimeout(again, retryInMs);
  }

  /** The running host is about to be ended on purpose: that is no failure, and whoever asks for the host meanwhile gets the next one. */
  expectEnd(): void {
    this.#expectsEnd = this.running !== null;
  }

  /** The host has done what it is for (an engine was loaded): it does not belong to those that die before they are of use. */
  worked(): void {
    this.#deaths = Math.min(this.#deaths, deathsOfWorking);
    this.#worked = true;
    this.#awaitRest(performance.now());
  }

  #awaitRest(sinceMs: number): void {
    if (this.#spareTimer !== null) clearTimeout(this.#spareTimer);
    this.#spareTimer = setTimeout(() => {
      if ((this.#host?.idleMs() ?? 0) >= spareIdleMs || performance.now() - sinceMs >= spareLatestMs)
        this.#startingSpare ??= this.#startSpare();
      else this.#awaitRest(sinceMs);
    }, spareLookMs);
    this.#spareTimer.unref();
  }

  /** One that does not start is no concern of anybody: the host itself tells what is wrong. */
  async #startSpare(): Promise<void> {
    try {
      if (this.#closed || this.#spare !== null || !this.#keepsSpare(this.#host)) return;
      const spare = await this.#start();
      if (this.#closed) return void (await spare.close());
      this.#spare = spare;
      void spare.ended.then(() => {
        if (this.#spare === spare) this.#spare = null;
      });
    } catch {
      // Said above.
    } finally {
      this.#startingSpare = null;
    }
  }

  #takeSpare(): Host | null {
    const spare = this.#spare;
    this.#spare = null;
    return spare === null || spare.gone() ? null : spare;
  }

  /** Ends the host and stays down. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    if (this.#spareTimer !== null) clearTimeout(this.#spareTimer);
    this.#state = "stopped";
    await this.#starting?.catch(() => undefined);
    await this.#startingSpare;
    await Promise.all([this.#host?.close(), this.#spare?.close()]);
  }
}

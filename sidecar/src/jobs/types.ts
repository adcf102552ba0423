// What a background job is. Times are milliseconds.

/** Who waits for the result, most urgent first. "asked": somebody pressed a button for it and goes on meanwhile. */
export type Urgency = "user" | "asked" | "lastUsed" | "arrival" | "idle";

export type JobState = "queued" | "running" | "done" | "failed" | "cancelled";

export interface JobProgress {
  readonly stage: string;
  /** In units of the job's choice; `total` 0 means that nobody can know yet. */
  readonly done: number;
  readonly total: number;
}

export interface JobContext {
  /** Whether nobody waits for it now: such work takes a low priority, until `awaited`. */
  readonly background: () => boolean;
  /** Resolves when somebody waits for it: at once where one did from the beginning, never where nobody ever does. */
  readonly awaited: Promise<void>;
  /** Aborted by cancel and by close; the job ends soon, with any error. */
  readonly signal: AbortSignal;
  readonly progress: (progress: JobProgress) => void;
  /** Resolves at once while no step runs, else when the engine is idle or the job has waited long enough. Call it between pieces of heavy work. */
  readonly yieldToSteps: () => Promise<void>;
}

export interface JobSpec<Result> {
  /** Equal keys are the same work: the second submission joins the first, and raises its urgency when it is more urgent. */
  readonly key: string;
  readonly kind: string;
  readonly title: string;
  readonly urgency: Urgency;
  /** In the background it starts only while the computer rests: heavy work that nobody has asked for. Not when a user waits for it. */
  readonly atRest?: boolean;
  /** Of the work, in units that jobs of its kind share (bytes); for jobs that cannot tell their own progress. */
  readonly size?: number;
  readonly run: (context: JobContext) => Promise<Result>;
}

export interface JobInfo extends JobProgress {
  readonly id: string;
  readonly kind: string;
  readonly title: string;
  readonly urgency: Urgency;
  readonly state: JobState;
  /** From this job's own pace once a tenth is done, before that from the pace of its kind; null while there is neither, because a guess would not be honest. */
  readonly remainingMs: number | null;
  readonly error: unknown;
}

export interface JobHandle<Result> {
  readonly id: string;
  readonly result: Promise<Result>;
}

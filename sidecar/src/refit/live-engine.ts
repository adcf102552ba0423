import { isDeepStrictEqual } from "node:util";
import type { CheckpointSource } from "../catalog/types.ts";
import { Failure } from "../failure/index.ts";
import type { AdapterLosses } from "@refit-sidecar/protocol";
import type { CallOptions, Host, HostReply, ReplyPlace, SharedMemory, StepTensor } from "../host/types.ts";
import { nextState, planRefit, sameState } from "../plan/index.ts";
import type { DesiredState, EngineEvent, EngineState, PlanResult, RefitPlan } from "../plan/index.ts";
import { engineBytes, placedKey } from "./engine-key.ts";
import type { DeviceName } from "./engine-key.ts";
import { OneAtATime } from "./one-at-a-time.ts";
import type { Serving } from "../telemetry/index.ts";
import type { EngineSpec, RefitRecord, SharedWish, StepReply, Wanted } from "./types.ts";
import { checkWeights } from "./verify.ts";

export interface LiveEngineParts {
  /** The running host of the engine's kind; starts or awaits it. */
  readonly host: () => Promise<Host>;
  readonly nowMs: () => number;
  readonly onState: (state: EngineState) => void;
  readonly onStarted: (plan: { readonly full: boolean; readonly writes: number }) => void;
  /** Loaded into a host process that has loaded so many sessions since it started. */
  readonly onLoaded: (host: Host, sessionLoads: number) => void;
  readonly onRecord: (record: RefitRecord, wanted: Wanted, failure: Failure | null) => void;
}

/**
 * One engine in one host: knows its weights, brings it to a desired state, runs steps on a generation. Refits are two-phase and always from the pristine base;
 * a failed one leaves the old weights serving. After a host's death or a commit cut short it is UNKNOWN until a verified full write.
 */
export class LiveEngine {
  readonly id: string;
  readonly spec: EngineSpec;
  readonly device: DeviceName;
  readonly #parts: LiveEngineParts;
  readonly #queue = new OneAtATime();
  #state: EngineState = { state: "UNKNOWN", reason: "not loaded yet" };
  #sinceMs: number;
  /** The host that holds it, null when it has to be loaded (again). */
  #host: Host | null = null;
  #generation = 0;
  #refitMs = 0;
  #bytes: number;
  /** What the weights are, as long as the state is not UNKNOWN. */
  #present: Wanted | null = null;
  /** What the engine was last asked to be: the state to recover into. */
  #lastWanted: Wanted | null = null;
  #everLoaded = false;
  #usedMs: number;
  /** As its host told it last. */
  serving: Serving | null = null;
  /** Of the stack that is live, as its host answered when it wrote it. */
  losses: AdapterLosses = [];

  constructor(spec: EngineSpec, parts: LiveEngineParts, device: DeviceName = null) {
    this.id = placedKey(spec, device);
    this.spec = spec;
    this.device = device;
    this.#bytes = engineBytes(spec);
    this.#parts = parts;
    this.#sinceMs = parts.nowMs();
    this.#usedMs = this.#sinceMs;
  }

  /** Bytes of its weights: the host's own answer once it is loaded, until then what the parameters take unquantised. */
  get bytes(): number {
    return this.#bytes;
  }
  get state(): EngineState {
    return this.#state;
  }
  get sinceMs(): number {
    return this.#sinceMs;
  }
  get generation(): number {
    return this.#generation;
  }
  /** When (monotonic) a run last asked for its weights. */
  get usedMs(): number {
    return this.#usedMs;
  }
  /** What the last `bring` spent on a refit; 0: the weights were there, or had to be loaded. */
  get refitMs(): number {
    return this.#refitMs;
  }
  get loaded(): boolean {
    return this.#host !== null;
  }
  /** What it serves, or was last asked to serve. */
  get wanted(): Wanted | null {
    return this.#present ?? this.#lastWanted;
  }

  /**
   * Makes the weights equal `wanted` and answers their generation. Throws what prepare throws (old weights keep serving), REFIT_NEEDS_RECOMPILE when this
   * engine cannot take the plan, REFIT_CHECKSUM_MISMATCH when a full write did not arrive.
   */
  bring(wanted: Wanted, signal?: AbortSignal, onProgress?: CallOptions["onProgress"]): Promise<number> {
    return this.#queue.run(async () => {
      signal?.throwIfAborted();
      this.#usedMs = this.#parts.nowMs();
      this.#refitMs = 0;
      this.#move({ type: "desired", desired: wanted.desired });
      const host = await this.#parts.host();
      // The usual step: nothing has changed, and nothing has to be planned to know it.
      if (this.#host === host && this.#state.state === "LIVE" && this.#present !== null && sameState(this.#present.desired, wanted.desired))
        return this.#generation;
      if (this.#host !== host) await this.#load(host, wanted, onProgress);
      else await this.#refit(host, wanted, signal);
      this.#lastWanted = wanted;
      return this.#generation;
    });
  }

  /** Brings it back to what it last was, after its host died or a commit was cut short. Does nothing for an engine that serves. */
  async recover(): Promise<void> {
    const wanted = this.wanted;
    if (wanted !== null && (this.#state.state === "UNKNOWN" || this.#host === null)) await this.bring(wanted);
  }

  /** Frees the host's engine and loads a new one into the same state, verified. For an engine whose weights cannot be written as they should be. */
  async rebuild(): Promise<void> {
    const wanted = this.wanted;
    // An engine that the host does not even give back is gone with its host, or refused by the load.
    await this.unload("built again").catch(() => undefined);
    if (wanted !== null) await this.bring(wanted);
  }

  /** Writes every weight again from the files, whatever the engine is believed to hold. */
  async rewrite(): Promise<void> {
    const wanted = this.wanted;
    if (wanted === null) return;
    this.#lastWanted = wanted;
    this.#present = null;
    this.#move({ type: "lost", reason: "asked to be written again" });
    await this.bring(wanted);
  }

  /** The host is gone and the weights with it. */
  lost(reason: string): void {
    this.#lastWanted = this.wanted;
    this.#host = null;
    this.#present = null;
    this.serving = null;
    this.losses = [];
    this.#move({ type: "lost", reason });
  }

  /** `reply`: where its host leaves the outputs, in memory that it shares. */
  async step(generation: number, tensors: readonly StepTensor[], signal?: AbortSignal, reply?: ReplyPlace): Promise<StepReply> {
    const host = this.#hostNow();
    const answer = await host.call(
      "step",
      { engine: this.id, generation, ...(reply === undefined ? {} : { reply }) },
      { tensors, ...(signal === undefined ? {} : { signal }) },
    );
    return { tensors: answer.tensors, placed: answer.placed, ms: answer.ms };
  }

  /** Memory of its device for one client. Throws HOST_SHARE_REFUSED with the reason. */
  async share(wish: SharedWish): Promise<SharedMemory> {
    const host = this.#hostNow();
    if (host.about.shares === undefined)
      throw new Failure("HOST_SHARE_REFUSED", "this engine host shares no memory of its device", { engine: this.id });
    const { tensors: _, placed: __, ...memory } = await host.call("share", wish);
    return {
      ...memory,
      release: () =>
        host.call("unshare", { name: memory.name }).then(
          () => undefined,
          () => undefined,
        ),
    };
  }

  #hostNow(): Host {
    if (this.#host === null)
      throw new Failure("HOST_LOST", "the engine's host ended; the engine is being loaded again", { engine: this.id });
    return this.#host;
  }

  /** Frees the host's memory. The engine can be brought back later by loading. */
  unload(reason = "unloaded to make room"): Promise<void> {
    return this.#queue.run(async () => {
      const host = this.#host;
      this.lost(reason);
      await host?.call("unload", { engine: this.id });
    });
  }

  /** The weights leave the device, and come back as they are with whatever needs them next. Returns bytes; 0 while the host needs them. */
  offload(): Promise<number> {
    return this.#queue.run(async () => (this.#host === null ? 0 : (await this.#host.call("offload", { engine: this.id })).bytes));
  }

  /** First load, and every load into a new host process. Only the latter is verified: it has to prove that the recovered engine is the old one. */
  async #load(host: Host, wanted: Wanted, onProgress: CallOptions["onProgress"]): Promise<void> {
    const kind = this.#everLoaded ? "recovery" : "load";
    const started = this.#parts.nowMs();
    this.#checkCovered(this.#plan(null, wanted));
    const { graph, steps, precision, parameters } = this.spec;
    this.#parts.onStarted({ full: true, writes: parameters.names.length });
    try {
      const loaded = await host.call(
        "load",
        {
          engine: this.id,
          graph,
          ...(graph === null
            ? { parameters: Object.fromEntries(parameters.names.map((name) => [name, [...(parameters.shapes[name] ?? [])]])) }
            : {}),
          ...(steps === true ? { steps } : {}),
          weightDtype: precision,
          checkpoint: wanted.checkpoint,
          stack: wanted.adapters.map((adapter) => adapter.file),
          ...limitOf(wanted),
          verify: this.#everLoaded,
        },
        onProgress === undefined ? {} : { onProgress },
      );
      this.#host = host;
      this.#generation = loaded.generation;
      this.losses = loaded.losses ?? [];
      if (loaded.bytes > 0) this.#bytes = loaded.bytes;
      this.#parts.onLoaded(host, loaded.sessionLoads);
      if (this.#everLoaded) await checkWeights(host.call, this.id, loaded.sha256 ?? {}, parameters.names);
      this.#everLoaded = true;
      this.#arrived(wanted, "written");
      this.#record(kind, wanted, {
        full: true,
        writes: loaded.parameters,
        bytesRead: 0,
        bytesWritten: loaded.bytes,
        prepareMs: this.#parts.nowMs() - started,
        commitMs: 0,
        mode: null,
      });
    } catch (error) {
      throw this.#failed(kind, wanted, started, error);
    }
  }

  async #refit(host: Host, wanted: Wanted, signal: AbortSignal | undefined): Promise<void> {
    const unknown = this.#state.state === "UNKNOWN";
    const result = this.#plan(unknown ? null : (this.#present?.desired ?? null), wanted);
    this.#checkCovered(result);
    if (result.kind !== "refit") return;
    const kind = unknown ? "recovery" : "refit";
    const started = this.#parts.nowMs();
    this.#parts.onStarted({ full: result.plan.full, writes: result.plan.writes.length });
    let prepared: HostReply<"prepare">;
    try {
      prepared = await this.#prepare(host, wanted, result.plan, unknown, signal);
    } catch (error) {
      throw this.#failed(kind, wanted, started, error);
    }
    const preparedAt = this.#parts.nowMs();
    try {
      const committed = await host.call("commit", { engine: this.id, token: prepared.token });
      this.#generation = committed.generation;
      this.losses = committed.losses ?? [];
      if (unknown) await checkWeights(host.call, this.id, prepared.sha256 ?? {}, this.spec.parameters.names);
    } catch (error) {
      // Whatever the host did before it failed: from here on only a verified full write is believed.
      this.#lastWanted = this.wanted;
      this.#present = null;
      this.#move({ type: "lost", reason: `a commit did not complete (${error instanceof Failure ? error.code : "unexpected"})` });
      await this.#askGeneration(host);
      throw this.#failed(kind, wanted, started, error);
    }
    this.#arrived(wanted, unknown ? "written" : "committed");
    if (!unknown) this.#refitMs = this.#parts.nowMs() - started;
    const { writes, bytesRead, bytesWritten, mode } = prepared;
    this.#record(kind, wanted, {
      full: result.plan.full,
      writes,
      bytesRead,
      bytesWritten,
      prepareMs: preparedAt - started,
      commitMs: this.#parts.nowMs() - preparedAt,
      mode,
    });
  }

  async #prepare(
    host: Host,
    wanted: Wanted,
    plan: RefitPlan,
    verify: boolean,
    signal: AbortSignal | undefined,
  ): Promise<HostReply<"prepare">> {
    const prepared = await host.call(
      "prepare",
      {
        engine: this.id,
        generation: this.#generation,
        plan,
        checkpoint: this.#holds(wanted.checkpoint) ? null : wanted.checkpoint,
        stack: wanted.adapters.map((adapter) => adapter.file),
        ...limitOf(wanted),
        verify,
      },
      signal === undefined ? {} : { signal },
    );
    if (signal?.aborted !== true) return prepared;
    // The result came before the cancellation: nobody wants it, so its memory goes back.
    await host.call("discard", { engine: this.id, token: prepared.token });
    throw new Failure("HOST_CANCELLED", "cancelled; nothing live was changed");
  }

  /** Whether the host has this checkpoint's table already: it is the larger part of a refit's message. */
  #holds(checkpoint: CheckpointSource): boolean {
    const present = this.#present?.checkpoint;
    return present !== undefined && (present === checkpoint || isDeepStrictEqual(present, checkpoint));
  }

  #plan(from: DesiredState | null, wanted: Wanted): PlanResult {
    const known = [...(this.#present?.adapters ?? []), ...wanted.adapters];
    return planRefit(from, wanted.desired, new Map(known.map(({ file, touches }) => [file.sha256, touches])), this.spec.parameters);
  }

  #checkCovered(result: PlanResult): void {
    if (result.kind !== "recompile") return;
    this.#move({ type: "uncovered", reason: result.reason });
    throw new Failure("REFIT_NEEDS_RECOMPILE", `expected weights that this engine can take; ${result.reason}`, {
      engine: this.id,
      parameters: result.parameters.slice(0, 20),
      count: result.parameters.length,
    });
  }

  /** After a failed commit the host may have moved on; a host that cannot even answer that is reported by its own end. */
  async #askGeneration(host: Host): Promise<void> {
    const status = await host.call("status", {}).catch(() => null);
    this.#generation = status?.engines.find(({ engine }) => engine === this.id)?.generation ?? this.#generation;
  }

  #arrived(wanted: Wanted, type: "written" | "committed"): void {
    this.#present = wanted;
    this.#move({ type, weights: wanted.desired });
  }

  #failed(kind: RefitRecord["kind"], wanted: Wanted, started: number, error: unknown): unknown {
    if (!(error instanceof Failure)) return error;
    this.#move({ type: "refitFailed", reason: error.message });
    const nothing = {
      full: kind !== "refit",
      writes: 0,
      bytesRead: 0,
      bytesWritten: 0,
      prepareMs: this.#parts.nowMs() - started,
      commitMs: 0,
      mode: null,
    };
    this.#record(kind, wanted, nothing, error);
    return error;
  }

  #record(
    kind: RefitRecord["kind"],
    wanted: Wanted,
    figures: Omit<RefitRecord, "engine" | "atMs" | "kind" | "failure">,
    failure: Failure | null = null,
  ): void {
    this.#parts.onRecord({ engine: this.id, atMs: this.#parts.nowMs(), kind, ...figures, failure: failure?.code ?? null }, wanted, failure);
  }

  #move(event: EngineEvent): void {
    const next = nextState(this.#state, event);
    if (next === this.#state) return;
    if (next.state !== this.#state.state) this.#sinceMs = this.#parts.nowMs();
    this.#state = next;
    this.#parts.onState(next);
  }
}

function limitOf({ desired: { adapterLoss } }: Wanted): { readonly adapterLoss?: number } {
  return adapterLoss === undefined ? {} : { adapterLoss };
}

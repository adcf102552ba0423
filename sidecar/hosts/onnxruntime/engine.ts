import type { HostParams, HostResult } from "@refit-sidecar/protocol";
import type { CheckpointSource } from "../../src/catalog/types.ts";
import type { BufferPool } from "./buffer-pool.ts";
import { Failure } from "../../src/failure/index.ts";
import { checkPlan } from "./check-plan.ts";
import { asHostFailure, hostFailure } from "./host-failure.ts";
import { withSources } from "./sources.ts";
import type { NamedBuffer } from "./runner/messages.ts";
import type { WeightTable } from "./weight-table.ts";
import { writeWeights } from "./write-weights.ts";

type PrepareCall = Omit<HostParams<"prepare">, "engine" | "verify" | "checkpoint"> & { readonly checkpoint: CheckpointSource };

interface Prepared {
  readonly call: PrepareCall;
  readonly writes: readonly string[];
  /** Finished values by parameter; null when the plan is committed in place. */
  staged: NamedBuffer[] | null;
}

/** The live weights, which belong to the step thread. */
export interface LiveWeights {
  /** Puts finished buffers in place; answers the ones that they replace. */
  readonly swap: (buffers: readonly NamedBuffer[]) => Promise<readonly NamedBuffer[]>;
  /** Takes live buffers out, to be written in place and swapped back. */
  readonly take: (parameters: readonly string[]) => Promise<readonly NamedBuffer[]>;
}

/** Prepared refits that wait for their commit, per engine; more than one exists only while runs with different stacks alternate. */
const maxPrepared = 8;

/**
 * The weights of one engine and every change to them. Two-phase: `prepare` computes beside the live weights, `commit` swaps between steps. The caller runs
 * `commit` and steps one at a time.
 */
export class Engine {
  readonly table: WeightTable;
  readonly #live: LiveWeights;
  readonly #pool: BufferPool;
  readonly #stagingBytes: number;
  readonly #prepared = new Map<string, Prepared>();
  #generation = 0;
  #dirty = false;
  #tokens = 0;
  /** Where the live weights come from. */
  #checkpoint: CheckpointSource | null = null;

  /** A plan that writes more than `stagingBytes` is committed in place. */
  constructor(table: WeightTable, live: LiveWeights, pool: BufferPool, stagingBytes: number) {
    this.table = table;
    this.#live = live;
    this.#pool = pool;
    this.#stagingBytes = stagingBytes;
  }

  get generation(): number {
    return this.#generation;
  }
  get dirty(): boolean {
    return this.#dirty;
  }
  get tokens(): readonly string[] {
    return [...this.#prepared.keys()];
  }

  /** First weights. On failure the engine is thrown away by its owner. */
  async fill(
    call: Pick<HostParams<"load">, "checkpoint" | "stack" | "verify">,
    signal: AbortSignal,
    progress: (done: number, total: number) => void,
  ) {
    const parameters = [...this.table.layouts.keys()];
    const filled: NamedBuffer[] = [];
    const result = await withSources(call.checkpoint, call.stack, async (sources) => {
      checkPlan(
        {
          from: null,
          to: { checkpoint: "", stack: call.stack },
          full: true,
          writes: parameters.map((parameter) => ({ parameter, reason: "base" })),
        },
        sources.deltas,
        this.table,
      );
      return writeWeights({
        table: this.table,
        sources,
        parameters,
        pool: this.#pool,
        signal,
        target: (_, bytes) => new Uint8Array(new ArrayBuffer(bytes)),
        finished: (parameter, values) => void filled.push([parameter, values]),
        verify: call.verify === true,
        progress,
      });
    });
    await this.#live.swap(filled);
    this.#generation = 1;
    this.#checkpoint = call.checkpoint;
    return result;
  }

  async prepare(call: HostParams<"prepare">, signal: AbortSignal): Promise<Omit<HostResult<"prepare">, "ms">> {
    for (const [token, old] of this.#prepared) if (old.call.generation !== this.#generation) this.#prepared.delete(token);
    this.#checkStart(call);
    const checkpoint = call.checkpoint ?? this.#checkpoint;
    if (checkpoint === null)
      throw hostFailure("HOST_INVALID_PARAMS", "expected a checkpoint: the engine has none yet", { field: "checkpoint" });
    const writes = call.plan.writes.map((write) => write.parameter);
    const staged: NamedBuffer[] | null = this.table.sizeOfAll(writes) <= this.#stagingBytes ? [] : null;
    try {
      const result = await withSources(checkpoint, call.stack, async (sources) => {
        checkPlan(call.plan, sources.deltas, this.table);
        return writeWeights({
          table: this.table,
          sources,
          parameters: writes,
          pool: this.#pool,
          signal,
          target: (_, size) => this.#pool.take(size),
          finished: (parameter, values) => (staged === null ? this.#pool.give(values) : void staged.push([parameter, values])),
          verify: call.verify === true,
        });
      });
      // The engine may have moved on while the files were read.
      this.#checkStart(call);
      const token = `${this.#generation}.${++this.#tokens}`;
      const { generation, plan, stack } = call;
      this.#prepared.set(token, { call: { generation, plan, checkpoint, stack }, writes, staged });
      const { bytesRead, bytesWritten } = result;
      return {
        token,
        writes: writes.length,
        bytesRead,
        bytesWritten,
        mode: staged === null ? "inPlace" : "staged",
        ...(call.verify === true ? { sha256: result.sha256 } : {}),
      };
    } catch (error) {
      this.#recycle(staged ?? []);
      throw error;
    }
  }

  #checkStart({ generation, plan }: Pick<PrepareCall, "generation" | "plan">): void {
    if (generation !== this.#generation) throw this.#stale(generation);
    if (this.#dirty && !plan.full)
      throw hostFailure("HOST_ENGINE_DIRTY", "expected a full plan: an earlier commit was cut short, so the weights belong to no stack", {
        generation,
      });
    if (this.#prepared.size >= maxPrepared)
      throw hostFailure("HOST_INVALID_PARAMS", `expected at most ${maxPrepared} prepared refits; commit or discard one first`, {
        prepared: this.#prepared.size,
      });
  }

  #stale(generation: number): Error {
    return hostFailure("HOST_PLAN_STALE", `expected a plan from generation ${this.#generation}, got one from ${generation}; plan again`, {
      expected: this.#generation,
      got: generation,
    });
  }

  /** Between steps. A staged commit cannot be interrupted; one in place marks the engine dirty until its last byte is written. */
  async commit(token: string): Promise<number> {
    const prepared = this.#prepared.get(token);
    if (prepared === undefined) throw this.#unknownToken(token);
    this.discard(token, false);
    if (prepared.call.generation !== this.#generation) {
      this.#release(prepared);
      throw this.#stale(prepared.call.generation);
    }
    if (prepared.staged !== null) {
      this.#recycle(await this.#live.swap(prepared.staged));
    } else {
      await this.#commitInPlace(prepared);
    }
    this.#generation += 1;
    this.#checkpoint = prepared.call.checkpoint;
    if (prepared.call.plan.full) this.#dirty = false;
    // Plans from the old weights can never be committed: their memory is worth more than a later, slightly clearer error.
    for (const other of this.#prepared.values()) this.#release(other);
    return prepared.writes.length;
  }

  async #commitInPlace(prepared: Prepared): Promise<void> {
    this.#dirty = true;
    const live = new Map(await this.#live.take(prepared.writes));
    try {
      await withSources(prepared.call.checkpoint, prepared.call.stack, (sources) =>
        writeWeights({
          table: this.table,
          sources,
          parameters: prepared.writes,
          pool: this.#pool,
          signal: new AbortController().signal,
          target: (parameter, bytes) => live.get(parameter) ?? this.#pool.take(bytes),
          finished: () => undefined,
          verify: false,
        }),
      );
    } catch (error) {
      // Some layers hold the old stack, some the new one: a set of weights that no plan may start from.
      this.#generation += 1;
      const { code, message, evidence } = asHostFailure(error);
      throw new Failure(code, message, { ...evidence, dirty: true, generation: this.#generation }, { cause: error });
    } finally {
      await this.#live.swap([...live]);
    }
    this.#dirty = false;
  }

  discard(token: string, release = true): void {
    const prepared = this.#prepared.get(token);
    if (prepared === undefined) throw this.#unknownToken(token);
    this.#prepared.delete(token);
    if (release) this.#release(prepared);
  }

  #unknownToken(token: string): Error {
    return hostFailure(
      "HOST_TOKEN_UNKNOWN",
      "expected the token of a prepared refit that was neither committed nor discarded; prepare again",
      { token },
    );
  }

  #release(prepared: Prepared): void {
    this.#recycle(prepared.staged ?? []);
    prepared.staged = null;
  }

  #recycle(buffers: readonly NamedBuffer[]): void {
    for (const [, buffer] of buffers) this.#pool.give(buffer);
  }
}

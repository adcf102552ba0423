// From a request to a lease on an engine that has its weights. A lease keeps them for its run, or follows replaced files where it asked for that.

import type { WireParams } from "@refit-sidecar/protocol";
import { Failure } from "../failure/index.ts";
import { nextLook, patienceFor } from "../host/index.ts";
import { stateKey } from "../plan/index.ts";
import type { DeviceName, EngineSpec, Wanted } from "../refit/index.ts";
import { Leases } from "../step/index.ts";
import type { Lease, LeasesOptions, OnProgress, Place } from "../step/index.ts";
import type { PlacedEngines } from "./placing/placed-engines.ts";
import { createBringAhead } from "./bring-ahead.ts";
import type { BringAhead } from "./bring-ahead.ts";
import type { Placer } from "./placing/placer.ts";
import type { Spread } from "./placing/spread.ts";
import type { StepTable } from "./resolve/graphs.ts";
import type { ResolvedWanted, WantedRequest } from "./resolve/resolver.ts";

/** A lease that is not stepped on for this long ends by itself: its client has died without a word, or forgot. */
export const leaseIdleMs = 10 * 60_000;
/** A sampler needs this long between two steps at most, before another lease may take the engine. */
const graceMs = 30;
/** Beyond this many waiting steps a client had better fall back to its own path. */
const maxWaiting = 512;

export interface LeaseRequest extends WantedRequest {
  readonly precision: WireParams<"engine.prepare">["precision"];
  readonly host: WireParams<"engine.prepare">["host"];
  readonly residuals: boolean;
}

/**
 * What becomes of a lease when one of its files is replaced: it keeps the weights that it was prepared with, it takes the new content between two steps, or
 * whoever opened it sees to it (the live folder; such a lease never ends by idleness).
 */
export type WhenReplaced = "keep" | "follow" | "opener";

/** What a lease was made from. */
export interface Origin {
  readonly request: LeaseRequest;
  readonly whenReplaced: WhenReplaced;
  readonly resolved: ResolvedWanted;
  readonly spec: EngineSpec;
  readonly table: StepTable;
}

export type EngineLeases = Leases<Origin>;
export type OpenLease = Lease<Origin>;

export interface OpenLeaseOptions {
  readonly signal?: AbortSignal;
  readonly whenReplaced?: WhenReplaced;
  /** Deltas, graph, then what the host tells of a load. */
  readonly onProgress?: OnProgress;
}

export interface LeaseOpenerParts {
  readonly leases: EngineLeases;
  readonly engines: Pick<PlacedEngines, "acquire" | "get">;
  readonly placer: Pick<Placer, "choose" | "heading">;
  readonly spread: Spread;
  /** How long a request waits while hosts end under it or are away (`EngineProvider.patienceMs`). */
  readonly patienceMs: number;
  readonly resolve: (request: WantedRequest, signal?: AbortSignal) => Promise<ResolvedWanted>;
  readonly specOf: (resolved: ResolvedWanted, request: LeaseRequest, signal?: AbortSignal) => Promise<Pick<Origin, "spec" | "table">>;
  /** Weights could not be brought: told with what they were to be made from. */
  readonly onFailed: (resolved: ResolvedWanted) => void;
}

export interface FollowReport {
  /** A lease goes on with what it has of this file (id in the catalog). */
  readonly kept: (id: string) => void;
  readonly failed: (lease: OpenLease, error: unknown) => void;
}

export interface LeaseOpener {
  /** Brings an engine to the request's state and keeps it: LIVE when this resolves. */
  readonly open: (request: LeaseRequest, options?: OpenLeaseOptions) => Promise<OpenLease>;
  /** Leases that asked for it get the new content of replaced files between two steps; `failed` hears of those that could not and go on as they were. */
  readonly follow: (changed: ReadonlySet<string>, told: FollowReport) => Promise<void>;
  /** Brings the engine of a client's last lease to what its next one will likely want. */
  readonly ahead: BringAhead;
  /** A client's lease keeps weights of this checkpoint that are not those of `state`, and could not be made again: its file has been replaced. */
  readonly holdsReplaced: (checkpoint: string, state: string) => boolean;
}

/** Failures of one device: another one may serve the same request. */
const ofDevice: ReadonlySet<string> = new Set([
  "HOST_LOST",
  "HOST_GARBAGE",
  "HOST_TIMEOUT",
  "HOST_START_FAILED",
  "HOST_OUT_OF_MEMORY",
  "REFIT_NO_ROOM",
]);

/** Failures that end when hosts are there again. */
const ofAbsence: ReadonlySet<string> = new Set(["HOST_LOST", "HOST_START_FAILED"]);
/** How often every device is tried, where hosts end under a request. */
const mostRounds = 3;

type Acquired = Awaited<ReturnType<PlacedEngines["acquire"]>>;

interface Taken<T> {
  readonly taken: T;
  readonly spreadTo: DeviceName;
}

export function createLeases(
  parts: Pick<LeasesOptions<Origin>, "turnMs" | "onStep" | "onEnd" | "elsewhere" | "mustLeave" | "patienceMs">,
): EngineLeases {
  return new Leases<Origin>({ ...parts, graceMs, maxWaiting, idleMs: leaseIdleMs, nowMs: () => performance.now() });
}

export function createLeaseOpener({
  leases,
  engines,
  placer,
  spread,
  patienceMs,
  resolve,
  specOf,
  onFailed,
}: LeaseOpenerParts): LeaseOpener {
  /** Has `take` bring the weights on a device that serves the engine; one that fails is left out, as long as there is another. Answers also which device should get the structure too. */
  async function onSomeDevice<T>(spec: EngineSpec, wanted: Wanted, take: (engine: Acquired) => Promise<T>): Promise<Taken<T>> {
    const lost = new Set<DeviceName>();
    const isWilling = patienceFor(patienceMs, () => performance.now());
    for (let failed: unknown, rounds = 1; ;) {
      const placement = placer.choose(spec, wanted, lost);
      if (placement === null) {
        // Every device was lost under it, one after another: nothing says that they stay away.
        const again = failed instanceof Failure && failed.code === "HOST_LOST" && lost.size > 1 && rounds < mostRounds;
        const isPatient = isWilling() && failed instanceof Failure && ofAbsence.has(failed.code);
        if (!again && !isPatient) throw failed;
        if (isPatient) await nextLook();
        rounds += 1;
        lost.clear();
        continue;
      }
      const arrived = placer.heading(placement.device);
      try {
        const taking = take(await engines.acquire(spec, placement.device));
        arrived();
        return { taken: await taking, spreadTo: placement.spreadTo };
      } catch (error) {
        if (!(error instanceof Failure && ofDevice.has(error.code))) throw error;
        failed = error;
        lost.add(placement.device);
      } finally {
        arrived();
      }
    }
  }

  /** Finds the place for a request and has `take` bring the weights there. */
  async function placed<T>(
    request: LeaseRequest,
    whenReplaced: WhenReplaced,
    take: (place: Place<Origin>) => Promise<T>,
    { signal, onProgress }: OpenLeaseOptions = {},
  ): Promise<Taken<T>> {
    const once = async () => {
      onProgress?.({ stage: "delta", done: 0, total: 0 });
      const resolved = await resolve(request, signal);
      onProgress?.({ stage: "graph", done: 0, total: 0 });
      const served = await specOf(resolved, request, signal);
      const origin = { request, whenReplaced, resolved, ...served };
      try {
        return await onSomeDevice(served.spec, resolved.wanted, ({ engine, release }) => {
          onProgress?.({ stage: "engine", done: 0, total: 0 });
          return take({ engine, release, wanted: resolved.wanted, origin });
        });
      } catch (error) {
        onFailed(resolved);
        throw error;
      }
    };
    try {
      return await once();
    } catch (error) {
      // The delta was damaged since it was verified; the second time it is verified anew, and made again.
      if (error instanceof Failure && error.code === "HOST_DELTA_INVALID") return once();
      throw error;
    }
  }

  async function followOne(lease: OpenLease, changed: ReadonlySet<string>, { kept, failed }: FollowReport): Promise<void> {
    const { request, resolved, whenReplaced } = lease.origin;
    const files = [
      resolved.checkpoint.entry.id,
      ...resolved.adapters.flatMap(({ id }, index) => (request.stack[index]?.adapter === id ? [id] : [])),
    ];
    const concerned = files.filter((id) => changed.has(id));
    if (whenReplaced === "opener" || concerned.length === 0) return;
    try {
      // An entry also changes when its hash becomes known: the same content needs nothing.
      const now = await resolve(request);
      if (stateKey(now.wanted.desired) === stateKey(resolved.wanted.desired)) return;
      if (whenReplaced === "keep") for (const id of concerned) kept(id);
      else await placed(request, whenReplaced, lease.move);
    } catch (error) {
      failed(lease, error);
    }
  }

  /** Engine to the lease that asked for its weights last. */
  const last = new Map<string, string>();
  const broughtLast = (lease: string) => [...last].find(([, id]) => id === lease)?.[0] ?? null;

  return {
    ahead: createBringAhead({ leases, engines, broughtLast, resolve, specOf }),
    async open(request, { whenReplaced = "keep", ...options } = {}) {
      const open = (place: Place<Origin>) => leases.open(place, { ...options, keep: whenReplaced === "opener" });
      const { taken: lease, spreadTo } = await placed(request, whenReplaced, open, options);
      last.set(lease.engine, lease.id);
      if (spreadTo !== null) spread(lease, lease.origin.spec, spreadTo);
      return lease;
    },
    async follow(changed, told) {
      for (const lease of leases.list()) await followOne(lease, changed, told);
    },
    holdsReplaced: (checkpoint, state) =>
      leases.list().some(({ origin: { whenReplaced, resolved } }) => {
        const held = resolved.checkpoint;
        return whenReplaced === "keep" && held.entry.id === checkpoint && held.state !== state;
      }),
  };
}

// From what a client names (a checkpoint, adapters, strengths) to a desired state with the files that make it.

import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { familyNames } from "@refit-sidecar/protocol";
import { LRUCache } from "lru-cache";
import { contentKey } from "../../catalog/index.ts";
import type { Catalog, CheckpointEntry, CheckpointSource } from "../../catalog/index.ts";
import type { DeltaService, DeltaTarget, ReadyDelta } from "../../delta/index.ts";
import { Failure } from "../../failure/index.ts";
import type { Wanted, WantedAdapter } from "../../refit/index.ts";
import { changesShape, notForTheEngine, touchedParameters } from "../../terms/index.ts";
import type { KeyReport, MergeMode } from "../../terms/index.ts";
import type { Events } from "../../telemetry/index.ts";
import { findByContent } from "./by-content.ts";

export interface StackRequest {
  /** Catalog id, or the SHA-256 of an adapter's content. */
  readonly adapter: string;
  readonly strength: number;
  /** What the client's loader changes with it (`targetsDigest`). */
  readonly targets?: string;
}

export interface WantedRequest {
  readonly checkpoint: string;
  readonly stack: readonly StackRequest[];
  readonly mode: MergeMode;
  readonly adapterLoss?: number;
}

export interface ResolvedCheckpoint {
  readonly entry: CheckpointEntry;
  readonly source: CheckpointSource;
  readonly target: DeltaTarget;
  /** Names this content on this disk: a checkpoint may be known by a sampled hash only, so its stamps are part of the name. */
  readonly state: string;
}

export interface ResolvedWanted {
  readonly wanted: Wanted;
  readonly checkpoint: ResolvedCheckpoint;
  /** Every adapter of the request, in its order, with what was made of it; one that is for the text encoder alone is here and not in `wanted`. */
  readonly adapters: readonly { readonly id: string; readonly delta: ReadyDelta }[];
  /** Time spent on deltas that were not ready. */
  readonly deltaMs: number;
}

/** Every key is for the text encoder, the VAE or an embedding: the file is in order, and none of an engine's business. */
function isForOthers({ used, ignored, failed }: KeyReport): boolean {
  return (
    used.length === 0 && failed.length === 0 && ignored.length > 0 && ignored.every(({ reason }) => reason.startsWith(notForTheEngine))
  );
}

/** Where an adapter's delta stands, for lists and badges. */
export type DeltaState = "none" | "pending" | "ready" | "failed";

export interface Resolver {
  readonly checkpoint: (idOrName: string) => Promise<ResolvedCheckpoint>;
  /** Throws what the catalog and the delta stage throw; DELTA_NON_FINITE for a file with NaN or infinity; DELTA_TARGETS_DIFFER; the delta's own problem when it changes nothing. */
  readonly wanted: (request: WantedRequest, signal?: AbortSignal) => Promise<ResolvedWanted>;
  /** The delta of one adapter, made when it is not there. */
  readonly delta: (adapterId: string, checkpoint: ResolvedCheckpoint, mode: MergeMode, signal?: AbortSignal) => Promise<ReadyDelta>;
  /** Throws as `wanted` would for a stack with this adapter; the delta is ready afterwards. */
  readonly checkAdapter: (adapterId: string, checkpoint: ResolvedCheckpoint, mode: MergeMode) => Promise<void>;
  readonly deltaState: (adapterId: string) => DeltaState;
  /** Every file of the request is in the catalog and can be used. */
  readonly known: (request: WantedRequest) => boolean;
  /** Catalog id of the checkpoint that a state names, while it is known. */
  readonly checkpointId: (state: string) => string | null;
  /** Forgets what is known of an adapter's deltas: its file has changed. */
  readonly forget: (adapterId: string) => void;
  /** A host refused one of these delta files: the next request has them verified, and made again where they are damaged. */
  readonly distrust: (resolved: ResolvedWanted) => void;
}

export interface ResolverParts {
  readonly catalog: Catalog;
  readonly deltas: DeltaService;
  readonly deltaFolder: string;
  readonly events: Events;
  /** Told of every delta that is handed out. */
  readonly onUsed: (path: string) => void;
}

const sha256Pattern = /^[0-9a-f]{64}$/;

/** Verified deltas by content, structure and mode: their headers, so that the same stack again costs no worker round trip. A term is about 400 bytes in memory, a named key 200. */
const keptHeaderBytes = 64 * 1024 * 1024;
const headerBytes = ({ header }: ReadyDelta): number =>
  1024 +
  header.terms.length * 400 +
  Object.keys(header.sources).length * 200 +
  (header.report.used.length + header.report.ignored.length + header.report.failed.length) * 200;

/** Thousands of rows, and every prompt asks for them. */
const shapes = new WeakMap<CheckpointSource, DeltaTarget["parameters"]>();

function shapesOf(source: CheckpointSource): DeltaTarget["parameters"] {
  let known = shapes.get(source);
  if (known === undefined) {
    known = new Map(Object.entries(source.parameters).map(([name, { shape }]) => [name, shape]));
    shapes.set(source, known);
  }
  return known;
}

export function createResolver({ catalog, deltas, deltaFolder, events, onUsed }: ResolverParts): Resolver {
  const states = new Map<string, DeltaState>();
  const checkpointIds = new Map<string, string>();
  const ready = new LRUCache<string, ReadyDelta>({ maxSize: keptHeaderBytes, sizeCalculation: headerBytes });

  /** A kept delta whose file is still there. What is in the file is checked again by the host that reads it. */
  async function kept(key: string): Promise<ReadyDelta | null> {
    const found = ready.get(key);
    if (found === undefined) return null;
    const size = await stat(found.path).then(
      (now) => now.size,
      () => -1,
    );
    if (size === found.fileBytes) return found;
    ready.delete(key);
    return null;
  }

  async function checkpoint(idOrName: string): Promise<ResolvedCheckpoint> {
    const entry = catalog.find("checkpoint", idOrName);
    if (entry.kind !== "checkpoint") throw new TypeError("catalog.find gave another kind than asked for");
    const identity = await catalog.identity(entry.id);
    const source = await catalog.checkpointSource(entry.id);
    if (entry.family === null || entry.structure === null) {
      throw new Failure(
        "CATALOG_ENTRY_UNUSABLE",
        `${entry.name} holds no diffusion model of a supported family; expected one of ${familyNames.join(", ")}`,
        { id: entry.id },
      );
    }
    const stamps = source.files.map(({ sizeBytes, mtimeNs, inode }) => `${sizeBytes}/${mtimeNs}/${inode}`).join(" ");
    const state = `${contentKey(identity).slice(0, 32)}-${createHash("sha256").update(stamps).digest("hex").slice(0, 16)}`;
    checkpointIds.set(state, entry.id);
    const parameters = shapesOf(source);
    return { entry, source, state, target: { family: entry.family, structure: entry.structure, parameters } };
  }

  /** An adapter by id, or by content: any entry with that full hash will do, since their content is the same. Null: none is known to have it. */
  function knownId(reference: string): string | null {
    const entries = catalog.snapshot().entries;
    if (entries.has(reference) || !sha256Pattern.test(reference)) return reference;
    for (const entry of entries.values()) if (entry.kind === "adapter" && entry.identity?.sha256 === reference) return entry.id;
    return null;
  }

  async function delta(id: string, resolved: ResolvedCheckpoint, mode: MergeMode, signal?: AbortSignal): Promise<ReadyDelta> {
    // Whatever a client named: only catalogued ids are remembered, and told to others.
    catalog.entry(id);
    const known = states.get(id);
    if (known !== "ready") states.set(id, "pending");
    const started = performance.now();
    try {
      const identity = await catalog.identity(id, "full");
      const { path, ...stamp } = catalog.adapterFile(id);
      const key = `${identity.sha256} ${resolved.target.structure} ${mode}`;
      const made =
        (await kept(key)) ??
        (await deltas.ready(
          { adapter: { path, sha256: identity.sha256, stamp }, target: resolved.target, mode, folder: deltaFolder, base: resolved.source },
          signal,
        ));
      ready.set(key, made);
      onUsed(made.path);
      if (known !== "ready") {
        events.emit({
          type: "delta.ready",
          id,
          ms: performance.now() - started,
          bytes: made.fileBytes,
          terms: made.header.terms.length,
          cached: made.cached,
        });
      }
      states.set(id, "ready");
      return made;
    } catch (error) {
      if (signal?.aborted !== true) {
        states.set(id, "failed");
        const failure = error instanceof Failure ? error : null;
        events.emit({
          type: "delta.failed",
          id,
          code: failure?.code ?? "DELTA_FAILED",
          message: failure?.message ?? "the adapter could not be packed",
        });
      }
      throw error;
    }
  }

  function usable(made: ReadyDelta, name: string): ReadyDelta {
    const { problem, terms } = made.header;
    if (problem !== null && terms.length === 0 && !isForOthers(made.header.report))
      throw new Failure(problem.code, `${name}: ${problem.message}`, { adapter: made.sha256 });
    if (made.nonFinite.length > 0) {
      throw new Failure(
        "DELTA_NON_FINITE",
        `${name} holds NaN or infinity in ${made.nonFinite.length} tensors (first ${made.nonFinite[0]}); a live engine refuses it. Get the file again, or remove it from the stack`,
        { adapter: made.sha256 },
      );
    }
    return made;
  }

  function known(request: WantedRequest): boolean {
    try {
      const ids = [catalog.find("checkpoint", request.checkpoint).id, ...request.stack.map(({ adapter }) => knownId(adapter))];
      return ids.every((id) => id !== null && catalog.snapshot().entries.get(id)?.problem === null);
    } catch {
      return false;
    }
  }

  return {
    known,
    checkpoint,
    delta,
    async checkAdapter(id, resolved, mode) {
      usable(await delta(id, resolved, mode), catalog.entry(id).name);
    },
    async wanted(request, signal) {
      const resolved = await checkpoint(request.checkpoint);
      const started = performance.now();
      // Side by side: one that has to be made does not keep the others waiting. The first of the stack that fails is told, whenever it failed.
      const found = await Promise.allSettled(
        request.stack.map(async ({ adapter, strength, targets }) => {
          const id = knownId(adapter) ?? (await findByContent(catalog, adapter, signal));
          const { name } = catalog.entry(id);
          return { id, name, strength, targets, made: usable(await delta(id, resolved, request.mode, signal), name) };
        }),
      );
      const adapters: WantedAdapter[] = [];
      const all: { id: string; delta: ReadyDelta }[] = [];
      for (const outcome of found) {
        if (outcome.status === "rejected") throw outcome.reason;
        const { id, name, strength, targets, made } = outcome.value;
        if (targets !== undefined && made.header.targets !== undefined && targets !== made.header.targets)
          throw new Failure(
            "DELTA_TARGETS_DIFFER",
            `${name} changes other layers in this UI than on an engine: its names mean different things to the two. Update the older of both, or use this file without an engine`,
            { adapter: made.sha256 },
          );
        all.push({ id, delta: made });
        // Nothing in it is for the denoiser: the UI has its part, and the engine's weights do not depend on it.
        if (made.header.terms.length === 0) continue;
        const reshapes = new Set(made.header.terms.filter(changesShape).map((term) => term.target.parameter));
        adapters.push({
          id,
          file: { delta: made.path, sha256: made.sha256, strength },
          touches: { parameters: [...touchedParameters(made.header.terms)], reshapes: [...reshapes] },
        });
      }
      const desired = {
        checkpoint: resolved.state,
        stack: adapters.map(({ file }) => ({ sha256: file.sha256, strength: file.strength })),
        ...(request.adapterLoss === undefined ? {} : { adapterLoss: request.adapterLoss }),
      };
      return {
        wanted: { desired, checkpoint: resolved.source, adapters },
        checkpoint: resolved,
        adapters: all,
        deltaMs: performance.now() - started,
      };
    },
    deltaState: (id) => states.get(id) ?? "none",
    checkpointId: (state) => checkpointIds.get(state) ?? null,
    forget: (id) => void states.delete(id),
    distrust: (resolved) => {
      for (const [key, delta] of ready.entries()) if (resolved.adapters.some((adapter) => adapter.delta === delta)) ready.delete(key);
    },
  };
}

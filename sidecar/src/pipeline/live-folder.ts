// The live folder: what lies in it is the live engine's stack. Every change of the folder brings the engine to the new stack, between steps.

import { contentKey } from "../catalog/index.ts";
import type { AdapterEntry, Catalog } from "../catalog/index.ts";
import { Failure, type FailureCode } from "../failure/index.ts";
import { liveFolderStack } from "../plan/index.ts";
import type { Log } from "../telemetry/index.ts";
import { nobodyToAsk, withRoom } from "./retry-with-room.ts";
import type { LeaseOpener, LeaseRequest, OpenLease } from "./open-lease.ts";
import type { Resolver } from "./resolve/resolver.ts";

export interface LiveProblem {
  readonly code: FailureCode;
  readonly message: string;
}

export interface LiveStatus {
  readonly lease: OpenLease | null;
  readonly problem: LiveProblem | null;
}

export interface LiveParts {
  readonly catalog: Catalog;
  readonly opener: Pick<LeaseOpener, "open" | "holdsReplaced">;
  readonly resolver: Resolver;
  readonly log: Log;
  /** Key of the live folder among the watched ones. */
  readonly folder: string;
  /** Id or name of the checkpoint; null: the only usable one there is. */
  readonly checkpoint: () => string | null;
  readonly request: () => Pick<LeaseRequest, "mode" | "precision" | "host" | "residuals">;
}

export interface LiveFolder {
  /** Brings the engine to what the folder holds now. Calls that come while one runs are folded into one more. */
  readonly update: () => Promise<void>;
  readonly status: () => LiveStatus;
}

export function createLiveFolder(parts: LiveParts): LiveFolder {
  const { catalog, opener, log } = parts;
  let lease: OpenLease | null = null;
  let problem: LiveProblem | null = null;
  let running: Promise<void> | null = null;
  let again = false;
  /** What was last brought, so that a catalog change elsewhere costs nothing. */
  let present = "";

  function checkpointId(): string {
    const named = parts.checkpoint();
    if (named !== null) return catalog.find("checkpoint", named).id;
    const usable = [...catalog.snapshot().entries.values()].filter((entry) => entry.kind === "checkpoint" && entry.problem === null);
    const [only] = usable;
    if (only && usable.length === 1) return only.id;
    throw new Failure(
      "LIVE_CHECKPOINT",
      usable.length === 0
        ? "the live folder waits for a checkpoint; none is catalogued yet"
        : `expected one checkpoint for the live folder, there are ${usable.length}; say which with --live-checkpoint`,
      {},
    );
  }

  /** As they are now: a snapshot may be some milliseconds behind, and a hash that has just been computed counts. */
  const adaptersHere = () =>
    [...catalog.snapshot().entries.keys()]
      .flatMap((id) => catalog.present(id) ?? [])
      .filter((entry): entry is AdapterEntry => entry.kind === "adapter" && entry.folder === parts.folder);

  /** The adapters that a live engine takes; each of the others is left out with its reason, and the rest still applies. */
  async function taken(ids: readonly string[], checkpoint: string, mode: LeaseRequest["mode"]): Promise<ReadonlySet<string>> {
    const resolved = await parts.resolver.checkpoint(checkpoint);
    const good = new Set<string>();
    for (const id of ids) {
      try {
        await parts.resolver.checkAdapter(id, resolved, mode);
        good.add(id);
      } catch (error) {
        note(error, `${catalog.entry(id).name} is left out`);
      }
    }
    return good;
  }

  function note(error: unknown, what: string): void {
    const failure =
      error instanceof Failure
        ? error
        : new Failure("LIVE_FAILED", error instanceof Error ? error.message : String(error), {}, { cause: error });
    const message = `${what}: ${failure.message}`;
    if (problem?.message !== message) log.warn(`live folder: ${message} [${failure.code}]`);
    problem = { code: failure.code, message };
  }

  async function bring(): Promise<void> {
    const checkpoint = checkpointId();
    // A file that is being written has no identity: it joins when it has settled and is hashed.
    await Promise.all(
      adaptersHere()
        .filter((entry) => entry.problem === null && entry.identity === null)
        .map((entry) => catalog.identity(entry.id, "full").catch(() => undefined)),
    );
    const { stack, waiting, refused } = liveFolderStack(adaptersHere());
    if (waiting.length > 0) return;
    const identity = await catalog.identity(checkpoint);
    // Bringing the engine away from them would end that run with an error; its end brings the folder's stack.
    if (lease !== null && opener.holdsReplaced(checkpoint, (await parts.resolver.checkpoint(checkpoint)).state)) {
      return note(
        new Failure("LIVE_WAITS", "the checkpoint was replaced while a run draws with it; the folder follows when that run ends"),
        "what was live keeps serving",
      );
    }
    const key = JSON.stringify([checkpoint, contentKey(identity), stack, refused, parts.request()]);
    if (key === present && lease !== null) return;
    problem = null;
    for (const { id, reason } of refused) note(new Failure("LIVE_REFUSED", reason), `${catalog.entry(id).name} is left out`);
    const good = await taken(
      stack.map(({ adapter }) => adapter),
      checkpoint,
      parts.request().mode,
    );
    const request = { ...parts.request(), checkpoint, stack: stack.filter(({ adapter }) => good.has(adapter)) };
    const opened = await withRoom(() => opener.open(request, { whenReplaced: "opener" }), nobodyToAsk);
    lease?.end();
    lease = opened;
    present = key;
  }

  async function loop(): Promise<void> {
    do {
      again = false;
      await bring().catch((error: unknown) => note(error, "what was live keeps serving"));
    } while (again);
  }

  return {
    update() {
      if (running !== null) {
        again = true;
        return running;
      }
      running = loop().finally(() => void (running = null));
      return running;
    },
    status: () => ({ lease, problem }),
  };
}

// The one place where values of stages meet: arrivals → catalog → delta → plan → refit → step → wire, and the ends of all of them.

import { join } from "node:path";
import { createArrivals, folderKey } from "../arrivals/index.ts";
import type { ArrivalEvent } from "../arrivals/index.ts";
import { createCatalog, entryId } from "../catalog/index.ts";
import type { CatalogChange } from "../catalog/index.ts";
import { DeltaService } from "../delta/index.ts";
import { withheld } from "../host/index.ts";
import { createScheduler } from "../jobs/index.ts";
import { mebibyte } from "../options/index.ts";
import type { Options } from "../options/index.ts";
import { createEvents, createMetrics } from "../telemetry/index.ts";
import type { Log } from "../telemetry/index.ts";
import { lockDataDir, startWire } from "../wire/index.ts";
import type { WireServer } from "../wire/index.ts";
import { createBackend } from "./answers/backend.ts";
import { createDeviceViews } from "./answers/devices.ts";
import { pageAnswers } from "./answers/pages.ts";
import { createAdapterFinder } from "./resolve/find-adapter.ts";
import { openFailedGraphs } from "./resolve/failed-graphs.ts";
import { createEngines } from "./engines.ts";
import { createFolders, foldersOf, inboxOf } from "./folders.ts";
import { openGraphs } from "./resolve/graphs.ts";
import { servedWithoutGraph, torchAlone } from "./resolve/hosted.ts";
import { hostChoice } from "./resolve/host-choice.ts";
import { autoHost, hostKinds, hostPythons } from "./resolve/hosts.ts";
import { createLeftAlone } from "./warm/left-alone.ts";
import { createLiveFolder } from "./live-folder.ts";
import { createLastUsed } from "./warm/last-used.ts";
import { createPrefetch } from "./warm/prefetch.ts";
import { logEvents } from "./answers/log-events.ts";
import { operatorMetrics } from "./answers/metrics.ts";
import { createLeaseOpener, createLeases } from "./open-lease.ts";
import type { LeaseRequest } from "./open-lease.ts";
import { engineSpec, graphNeed, graphOf } from "./resolve/spec.ts";
import { createStatusPage } from "./answers/status-page.ts";
import { openStores } from "./stores.ts";
import { createPlacing } from "./placing/index.ts";
import { createDeltaTrimmer } from "./trim-deltas.ts";
import { jobView } from "./answers/views.ts";
import { createWarm } from "./warm/warm.ts";
import { createWarmLast } from "./warm/warm-last.ts";
import { warmPolicy } from "./warm/warm-policy.ts";
import { createResolver } from "./resolve/resolver.ts";
import type { ResolvedCheckpoint } from "./resolve/resolver.ts";
import { createSampling } from "./sampling/serve.ts";

export interface SidecarParts {
  readonly options: Options;
  /** Resolved data folder; made when it is missing. */
  readonly dataDir: string;
  readonly version: string;
  readonly log: Log;
}

export interface Sidecar {
  readonly wire: WireServer;
  /** Applies options that may change while it runs (new folders, limits, levels). */
  readonly reload: (options: Options) => Promise<void>;
  readonly close: () => Promise<void>;
}

/** Steps are "active" this long after the last one: a sampler is between two steps, not done. */
const stepPauseMs = 250;
/** Heavy work that nobody asked for begins after so long without a run. */
const restMs = 30_000;
/** Background work goes on after this long even under a queue of prompts. */
const maxYieldMs = 10_000;
const backgroundJobs = 1;
const quietCheckMs = 20_000;
const leavingCheckMs = 5_000;

/** Starts everything and resolves when the wire listens; folders are scanned and engines warmed behind it. Throws Failure with the stage's code, WIRE_ALREADY_RUNNING before anything is touched. */
export async function startSidecar(setup: SidecarParts): Promise<Sidecar> {
  const unlock = await lockDataDir(setup.dataDir);
  try {
    const sidecar = await startParts(setup);
    return { ...sidecar, close: () => sidecar.close().finally(unlock) };
  } catch (error) {
    await unlock();
    throw error;
  }
}

async function startParts({ options: given, dataDir, version, log }: SidecarParts): Promise<Sidecar> {
  let options = given;
  const metrics = createMetrics();
  const events = createEvents((error) => log.warn(`a listener of events failed: ${String(error)}`));
  const arrivals = createArrivals({ folders: foldersOf(options, dataDir), quietMs: options["quiet-window"], poll: options.poll });
  const catalog = createCatalog({ storePath: join(dataDir, "catalog.json"), onStoreTrouble: (text) => log.warn(text) });
  const deltas = new DeltaService();
  deltas.start();
  const deltaFolder = join(dataDir, "deltas");
  const deltasInUse = () => new Set(leases.list().flatMap(({ origin }) => origin.resolved.adapters.map(({ delta }) => delta.path)));
  const trimmer = createDeltaTrimmer(deltaFolder, () => options["delta-cache"] * mebibyte, deltasInUse);
  const resolver = createResolver({ catalog, deltas, deltaFolder, events, onUsed: trimmer.used });
  let policy = warmPolicy(options);
  const stores = await openStores(() => options, dataDir, log);
  const pythons = hostPythons(dataDir, () => options.python);
  const failedGraphs = await openFailedGraphs(join(dataDir, "failed-graphs.json"), version);
  const graphs = await openGraphs({
    stores,
    python: () => pythons("torch"),
    failed: failedGraphs,
    onBadBundle: (name, error) => log.warn(`the graph ${name} cannot be used: ${String(error)}`),
  });
  const jobs = createScheduler({
    concurrency: backgroundJobs,
    stepsActive: () => leases.activeWithin(stepPauseMs),
    resting: () => leases.list().length === 0 && !leases.activeWithin(restMs),
    maxYieldMs,
    onChange: (job) => page.noteJob(jobView(job)),
    mayStart: () => !policy.isQuiet(new Date()),
  });
  // The wire makes it before it listens, and no host starts before somebody can ask for one.
  let segmentFolder: string | null = null;
  const { engines, mayHaveCard, patienceMs } = await createEngines({
    options: () => options,
    pythons,
    stores,
    log,
    events,
    metrics,
    segmentFolder: () => segmentFolder,
    inbox: inboxOf(options, dataDir),
  });
  const watched = operatorMetrics({ metrics, events, engines, leases: () => leases, jobs, catalog, devices: () => deviceViews() });
  const leases = createLeases({
    turnMs: () => options.turn,
    onStep: (lease, reply, tensors) => {
      watched.stepped(reply.ms, reply.waitedMs);
      placing.stepped(lease, reply, tensors);
    },
    patienceMs,
    elsewhere: (place) => placing.elsewhere(place),
    mustLeave: (place) => placing.mustLeave(place),
    onEnd: () => {
      if (live?.status().problem?.code === "LIVE_WAITS") void live.update();
    },
  });
  const placing = createPlacing({
    engines,
    leases: () => leases,
    freeBytes: (host) => watched.memory(host)?.freeBytes ?? null,
    by: () => options.placement,
    onNotSpread: (device, error) => log.warn(`device ${device ?? "auto"} did not get a copy of a busy engine: ${String(error)}`),
  });
  const deviceViews = createDeviceViews({ engines, leases: () => leases, placer: () => placing.placer, memory: watched.memory });
  const specOf = (checkpoint: ResolvedCheckpoint, request: LeaseRequest) =>
    engineSpec(
      {
        graphs,
        jobs,
        pythons,
        options: () => options,
        card: mayHaveCard,
        winner: (structure, dtype) => hostChoice(stores.notes, structure, dtype),
        onProcessor: async (kind) => (await engines.host(kind)).about.device.type === "cpu",
      },
      checkpoint,
      request,
    );
  const opener = createLeaseOpener({
    leases,
    engines,
    placer: placing.placer,
    spread: placing.spread,
    patienceMs,
    resolve: resolver.wanted,
    specOf: (resolved, request) => specOf(resolved.checkpoint, request),
    onFailed: resolver.distrust,
  });
  const folders = createFolders(arrivals, catalog, foldersOf(options, dataDir));
  const liveFolder = options["live-folder"];
  const requestDefaults = (): Pick<LeaseRequest, "mode" | "precision" | "host" | "residuals"> => ({
    mode: options.mode,
    precision: options.precision,
    host: options.host,
    residuals: false,
  });
  const live =
    liveFolder === null
      ? null
      : createLiveFolder({
          catalog,
          opener,
          resolver,
          log,
          folder: folderKey(liveFolder),
          checkpoint: () => options["live-checkpoint"],
          request: requestDefaults,
        });
  const lastUsed = createLastUsed(join(dataDir, "last-used.json"));
  const inUse = () => leases.list().map(({ origin }) => origin.resolved.checkpoint.entry.id);
  const prefetch = createPrefetch({
    catalog,
    resolver,
    jobs,
    inUse,
    mode: () => options.mode,
    policy: () => policy,
    graph: async (checkpoint, urgency) => {
      if (pythons("torch") === null || torchAlone(checkpoint.target)) return;
      const kind = autoHost(options.host, { pythons, card: mayHaveCard() });
      if (kind === "torch" && servedWithoutGraph(checkpoint.target)) return;
      await graphOf({ graphs, jobs }, checkpoint, urgency, graphNeed(kind));
    },
  });

  const warm = createWarm({ engines, opener, leases, lastUsed });
  const warmLast = createWarmLast({ known: resolver.known, jobs, log, warm, inUse: () => leases.list().length > 0 || leases.steps() > 0 });
  // Quiet hours end without anything else happening.
  const clock = setInterval(jobs.wake, quietCheckMs);
  clock.unref();

  const held: ArrivalEvent[] = [];
  let paused = false;
  const accept = (batch: readonly ArrivalEvent[]) => {
    if (paused) return void held.push(...batch);
    folders.note(batch);
    for (const event of batch) {
      if (event.type === "settled")
        events.emit({
          type: "arrival.settled",
          id: entryId(event.folder.kind, event.folder.key, event.name),
          kind: event.folder.kind,
          waitedMs: event.settledAtMs - event.arrivedAtMs,
        });
      if (event.type === "refused")
        events.emit({
          type: "arrival.refused",
          id: entryId(event.folder.kind, event.folder.key, event.name),
          code: event.code,
          message: event.message,
        });
    }
    catalog.accept(batch);
  };

  /** Leases keep what they hold when their files are replaced or deleted, which is reported; those that asked to follow do. */
  async function follow(change: CatalogChange): Promise<void> {
    await live?.update();
    const inStacks = new Set(
      leases.list().flatMap(({ origin: { resolved } }) => [resolved.checkpoint.entry.id, ...resolved.adapters.map(({ id }) => id)]),
    );
    for (const id of change.removed)
      if (inStacks.has(id))
        events.emit({
          type: "live.deleted",
          id,
          message: "the file was deleted; the engine keeps serving what it held until it is asked for something else",
        });
    const replaced = new Set(change.changed.filter((id) => change.snapshot.entries.get(id)?.problem === null));
    if (replaced.size > 0)
      await opener.follow(replaced, {
        kept: (id) =>
          events.emit({
            type: "live.replaced",
            id,
            message: "the file was replaced; a run that is under way keeps what it holds, the next one takes the new content",
          }),
        failed: (lease, error) => log.warn(`${lease.id} could not follow a replaced file and goes on as it was: ${String(error)}`),
      });
  }

  const page = createStatusPage({
    version,
    catalog,
    engines,
    leases,
    jobs,
    resolver,
    folders,
    live,
    devices: deviceViews,
    paused: () => paused,
    hostKinds: () => hostKinds(pythons),
  });
  const forLoops = { mode: () => options.mode, turnMs: () => options.turn, looped: watched.looped, noted: lastUsed.note };
  const backend = createBackend({
    arrivals,
    catalog,
    engines,
    leases,
    opener,
    jobs,
    resolver,
    folders,
    page,
    events,
    lastUsed,
    warm,
    finder: createAdapterFinder(catalog),
    sample: createSampling({ engines, opener, catalog, resolver, specOf, placer: placing.placer, ...forLoops }),
    pages: pageAnswers({ catalog, resolver, engines, opener, figures: watched.figures, log, options: () => options, stores, deltaFolder }),
    watch: {
      pause: () => void (paused = true),
      paused: () => paused,
      resume: async () => {
        paused = false;
        accept(held.splice(0));
        await arrivals.rescan();
      },
    },
  });

  arrivals.subscribe(accept);
  catalog.onChange((change) => {
    events.emit({
      type: "catalog.changed",
      generation: change.snapshot.generation,
      added: change.added,
      changed: change.changed,
      removed: change.removed,
    });
    prefetch.onChange(change);
    warmLast.onChange();
    follow(change).catch((error: unknown) => log.error(`following a change of the catalog failed: ${String(error)}`));
  });
  logEvents(events, log);

  await catalog.open();
  const wire = await startWire({
    backend,
    dataDir,
    version,
    log,
    metrics,
    onSegmentFolder: (folder) => void (segmentFolder = folder),
    options: {
      bind: options.bind,
      port: options.port,
      tlsCert: options["tls-cert"],
      tlsKey: options["tls-key"],
      behindProxy: options["behind-proxy"],
      allowHosts: options["allow-host"],
      allowOrigins: options["allow-origin"],
      maxClients: options["max-clients"],
    },
  }).catch(async (error: unknown) => {
    await catalog.close();
    throw error;
  });
  const hidden = withheld(options["host-env"]);
  if (hidden.length > 0) log.info(`set here, and not handed to engine hosts: ${hidden.join(", ")}; --host-env NAME hands one on`);
  const alone = createLeftAlone({
    clients: wire.clients,
    inUse: () => live !== null || leases.list().length > 0 || leases.activeWithin(stepPauseMs),
    afterMs: () => options["free-after"] * 1000,
    free: async () => (await engines.free(null)).freed.length,
    told: log.info,
  });
  const leaving = setInterval(
    () => void alone.look().catch((error: unknown) => log.warn(`engines could not be unloaded: ${String(error)}`)),
    leavingCheckMs,
  );
  leaving.unref();
  log.info(`listening on ${wire.url}, engines on ${autoHost(options.host, { pythons, card: mayHaveCard() })}`);

  const scanned = arrivals.start().then(async () => {
    await catalog.idle();
    await live?.update();
    warmLast.start((await lastUsed.load()).slice(0, policy.stacks).toReversed());
    prefetch.all();
  });
  scanned.catch((error: unknown) => log.error(`the folders could not be scanned: ${String(error)}`));

  return {
    wire,
    async reload(next) {
      // A wrong value changes nothing.
      policy = warmPolicy(next);
      options = next;
      jobs.wake();
      arrivals.setQuiet(next["quiet-window"]);
      stores.prune();
      log.setLevel(next["log-level"]);
      wire.reload({ allowHosts: next["allow-host"], allowOrigins: next["allow-origin"], maxClients: next["max-clients"] });
      await folders.configure(foldersOf(next, dataDir));
      await live?.update();
    },
    async close() {
      clearInterval(clock);
      clearInterval(leaving);
      watched.close();
      await wire.close();
      await arrivals.close();
      await jobs.close();
      leases.close();
      await engines.close();
      await deltas.close();
      await lastUsed.flush();
      await failedGraphs.idle();
      await trimmer.idle();
      await stores.close();
      await catalog.close();
    },
  };
}

// The wire's backend: every forwarded method in terms of the stages. Pages and plugins see what this file lets out.

import { stat } from "node:fs/promises";
import type { WireParams } from "@refit-sidecar/protocol";
import type { Arrivals } from "../../arrivals/index.ts";
import type { Catalog, CatalogEntry, CatalogSnapshot } from "../../catalog/index.ts";
import { Failure } from "../../failure/index.ts";
import { remainingMs } from "../../jobs/index.ts";
import type { JobContext, Scheduler } from "../../jobs/index.ts";
import type { Engines, EngineSpec } from "../../refit/index.ts";
import type { Events, StampedEvent } from "../../telemetry/index.ts";
import type { WireBackend } from "../../wire/index.ts";
import type { AdapterFinder } from "../resolve/find-adapter.ts";
import type { Folders } from "../folders.ts";
import type { Port } from "../resolve/graphs.ts";
import { leaseIdleMs } from "../open-lease.ts";
import type { EngineLeases, LeaseOpener, LeaseRequest } from "../open-lease.ts";
import { withRoom } from "../retry-with-room.ts";
import { createDeviceRestart } from "./devices.ts";
import { changeSince, engineOf } from "./engines.ts";
import type { pageAnswers } from "./pages.ts";
import type { StatusPage } from "./status-page.ts";
import { jobAnswers } from "./jobs.ts";
import { adapterReportView, catalogEntryView, portDtype, wirePrecision } from "./views.ts";
import type { OnProgress } from "../../step/index.ts";
import type { LastUsed } from "../warm/last-used.ts";
import { hostMemory } from "../warm/warm.ts";
import type { Resolver } from "../resolve/resolver.ts";

export interface BackendParts {
  readonly arrivals: Arrivals;
  readonly catalog: Catalog;
  readonly engines: Engines;
  readonly leases: EngineLeases;
  readonly opener: Pick<LeaseOpener, "open" | "ahead">;
  readonly jobs: Scheduler;
  readonly resolver: Resolver;
  readonly finder: AdapterFinder;
  readonly folders: Folders;
  readonly page: StatusPage;
  readonly events: Events;
  readonly lastUsed: LastUsed;
  readonly watch: { readonly pause: () => void; readonly resume: () => Promise<void>; readonly paused: () => boolean };
  readonly sample: WireBackend["sample"];
  /** What pages ask beyond the stages' own lists. */
  readonly pages: ReturnType<typeof pageAnswers>;
  /** Makes whatever is missing for a request and leaves the engine LIVE, without keeping it. */
  readonly warm: (request: LeaseRequest, context: Pick<JobContext, "signal" | "progress">) => Promise<void>;
}

const pageLength = 200;

interface Placed {
  readonly order: string;
  readonly entry: CatalogEntry;
}

/** Sorted once, for all the pages of a list. */
const placed = new WeakMap<CatalogSnapshot, readonly Placed[]>();

function inOrder(snapshot: CatalogSnapshot): readonly Placed[] {
  const known = placed.get(snapshot);
  if (known !== undefined) return known;
  const rows = [...snapshot.entries.values()]
    .map((entry) => ({ order: `${entry.name}\u0000${entry.id}`, entry }))
    .sort((a, b) => (a.order < b.order ? -1 : 1));
  placed.set(snapshot, rows);
  return rows;
}

export function createBackend(parts: BackendParts): WireBackend {
  const { catalog, engines, leases, jobs, resolver, folders, events, watch } = parts;
  const view = (entry: CatalogEntry) => catalogEntryView(entry, resolver.deltaState(entry.id));

  function entryBy(key: WireParams<"catalog.get">): CatalogEntry {
    if ("id" in key) return catalog.entry(key.id);
    const fits = (entry: CatalogEntry) =>
      "sha256" in key
        ? entry.identity?.sha256 === key.sha256
        : entry.folder === key.folder && entry.name.normalize("NFC") === key.name.normalize("NFC");
    for (const entry of catalog.snapshot().entries.values()) if (fits(entry)) return entry;
    throw new Failure(
      "CATALOG_ENTRY_UNKNOWN",
      "no catalogued file is the one named; it may not be hashed yet, or lie in no watched folder",
      { ...key },
    );
  }

  const asked = (kind: string, title: string, key: string, run: (context: JobContext) => Promise<void>) => {
    const { id, result } = jobs.submit({ key, kind, title, urgency: "asked", run });
    result.catch(() => undefined);
    return { job: id };
  };

  return {
    ...parts.pages,
    "catalog.list": async ({ kind, family, structure, folder, ids, after, limit = pageLength }) => {
      const snapshot = catalog.snapshot();
      const named = ids && new Set(ids);
      const fits = (entry: CatalogEntry) =>
        (kind === undefined || entry.kind === kind) &&
        (family === undefined || entry.family === family) &&
        (structure === undefined || (entry.kind === "checkpoint" && entry.structure === structure)) &&
        (folder === undefined || entry.folder === folder) &&
        (named === undefined || named.has(entry.id));
      const rows = inOrder(snapshot).filter(({ order, entry }) => (after === undefined || order > after) && fits(entry));
      const page = rows.slice(0, limit);
      return {
        generation: snapshot.generation,
        entries: page.map(({ entry }) => view(entry)),
        next: rows.length > limit ? (page.at(-1)?.order ?? null) : null,
      };
    },
    "catalog.get": async (key) => {
      let entry = entryBy(key);
      if ("hash" in key && key.hash === true && entry.problem === null) {
        await catalog.identity(entry.id, "full");
        // Whoever asked names the content in the next call, and that looks into the snapshot.
        catalog.publish();
        entry = catalog.entry(entry.id);
      }
      return { generation: catalog.snapshot().generation, entry: view(entry) };
    },
    "adapter.find": async ({ tensors }) => ({ adapter: await parts.finder.find(tensors) }),
    "folders.list": async () => ({ folders: folders.views() }),
    "folders.add": async ({ path, kind }) => {
      if (
        !(await stat(path).then(
          (found) => found.isDirectory(),
          () => false,
        ))
      )
        throw new Failure("CATALOG_FOLDER", "expected an existing folder; it is missing, or this program may not read it", {});
      return { folder: await folders.add({ path, kind: kind === "adapters" ? "adapter" : "checkpoint" }) };
    },
    "folders.remove": async ({ folder }) => {
      await folders.remove(folder);
      return {};
    },
    "watch.pause": async () => {
      watch.pause();
      return { paused: watch.paused() };
    },
    "watch.resume": async () => {
      await watch.resume();
      return { paused: watch.paused() };
    },
    "engine.prepare": async (params, context) => {
      const started = performance.now();
      const request = requestOf(params);
      let stage = { name: "", sinceMs: started };
      const onProgress: OnProgress = (told) => {
        if (told.stage !== stage.name) stage = { name: told.stage, sinceMs: performance.now() };
        context.progress({
          ...told,
          remainingMs: remainingMs(performance.now() - stage.sinceMs, told.done, told.total),
          text: "Preparing the engine",
        });
      };
      const whenReplaced = params.follow === true ? "follow" : "keep";
      const lease = await withRoom(
        () => parts.opener.open(request, { signal: context.signal, onProgress, whenReplaced }),
        context.makeRoom,
      );
      const { spec, table, resolved } = lease.origin;
      parts.lastUsed.note(request);
      const own = changeSince(engines, lease.engine, started);
      const refitMs = own === null ? 0 : own.prepareMs + own.commitMs;
      return {
        lease: lease.id,
        leaseIdleMs,
        engine: lease.engine,
        host: spec.hostKind,
        precision: wirePrecision[spec.precision],
        inputs: portsOf(table.inputs, spec.precision).concat(request.residuals ? portsOf(table.residuals, spec.precision) : []),
        outputs: portsOf(table.outputs, spec.precision),
        ms: {
          total: performance.now() - started,
          delta: resolved.deltaMs,
          load: own?.kind === "refit" ? 0 : refitMs,
          refit: own?.kind === "refit" ? refitMs : 0,
        },
        refit: own === null ? null : { writes: own.writes, bytes: own.bytesWritten, full: own.full },
        adapters: resolved.adapters.map(({ id, delta }) => adapterReportView(id, delta)),
      };
    },
    "engine.ahead": async (params, { signal }) => ({ brought: await parts.opener.ahead(requestOf(params), params.after, signal) }),
    "engine.release": async ({ lease }) => {
      leases.release(lease);
      return {};
    },
    "engine.warm": async (params) => {
      const request = requestOf(params);
      return asked("warm", `Warm ${catalog.find("checkpoint", params.checkpoint).name}`, `warm ${JSON.stringify(request)}`, (context) =>
        parts.warm(request, context),
      );
    },
    "engine.list": async () => ({ engines: parts.page.engines() }),
    "engine.refit": async ({ engine }) => {
      const live = engineOf(engines, engine);
      return asked("refit", "Write all weights again", `refit ${engine}`, () => live.rewrite());
    },
    "engine.rebuild": async ({ engine }) => {
      const live = engineOf(engines, engine);
      return asked("rebuild", "Build the engine again", `rebuild ${engine}`, async () => {
        await live.rebuild();
      });
    },
    "engine.free": async ({ engine, keep = false }) => {
      if (engine !== null) engineOf(engines, engine);
      const { freed, queued, bytes } = await (keep ? engines.offload(engine) : engines.free(engine));
      return { freed: [...freed], queued: [...queued], bytes };
    },
    "device.restart": createDeviceRestart(engines),
    ...jobAnswers(jobs),
    step: async ({ lease: id, inputs, reply: place }, { signal, makeRoom }) => {
      const lease = leases.get(id);
      const { structure } = lease.origin.spec;
      const reply = await withRoom(() => lease.step(inputs, signal, place), makeRoom);
      const isNew = parts.lastUsed.noteStep(structure, Object.fromEntries(inputs.map(({ name, shape }) => [name, shape])), reply.ms);
      if (isNew)
        hostMemory(engines, lease.engine).then(
          (bytes) => bytes !== null && parts.lastUsed.noteMemory(structure, bytes),
          () => undefined,
        );
      return { ms: { queue: reply.waitedMs, run: reply.ms }, outputs: reply.tensors, placed: reply.placed };
    },
    share: async ({ lease, medium, device, bytes }) => {
      try {
        return { memory: await leases.get(lease).share({ medium, device, bytes }) };
      } catch (error) {
        if (error instanceof Failure && error.code === "HOST_SHARE_REFUSED") return { reason: error.message };
        throw error;
      }
    },
    sample: parts.sample,
    adoptPushed: async (adapter) => ({ id: (await catalog.adopt(adapter)).id }),
    forgetPushed: (sha256) => {
      if (leases.list().some(({ wanted }) => wanted.adapters.some(({ file }) => file.sha256 === sha256))) return false;
      for (const entry of catalog.snapshot().entries.values())
        if (entry.folder === null && entry.identity?.sha256 === sha256) catalog.forget(entry.id);
      return true;
    },
    status: parts.page.status,
    history: () => events.history().map(({ atMs, at, event }: StampedEvent) => ({ atMs, at, event })),
    subscribe: (listener) => {
      const stopEvents = events.subscribe(listener);
      const stopJobs = parts.page.onJob((event) => listener({ atMs: performance.now(), at: new Date().toISOString(), event }));
      return () => {
        stopEvents();
        stopJobs();
      };
    },
  };
}

/** What a lease is asked for, of all that a client says. */
function requestOf(params: WireParams<"engine.prepare" | "engine.ahead" | "engine.warm">): LeaseRequest {
  const { checkpoint, stack, mode, precision, host, residuals, adapterLoss } = params;
  return { checkpoint, stack, mode, precision, host, residuals, ...(adapterLoss === undefined ? {} : { adapterLoss }) };
}

type Ports = Awaited<ReturnType<WireBackend["engine.prepare"]>>["inputs"];

function portsOf(ports: readonly Port[], precision: EngineSpec["precision"]): Ports[number][] {
  return ports.map(({ name, dtype, shape, optional }) => ({
    name,
    ...(optional === true ? { optional } : {}),
    dtype: portDtype(dtype, precision),
    shape: [...shape],
  }));
}

// The listening server: HTTP pages and WebSocket sessions on one port, the discovery file, and their common end.

import { createServer, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { rm } from "node:fs/promises";
import type { Role } from "@refit-sidecar/protocol";
import type { WebSocket } from "ws";
import { Failure } from "../failure/index.ts";
import type { Log, Metrics } from "../telemetry/index.ts";
import { createBrowsers, createTokens, isLoopback, type Access } from "./access/index.ts";
import type { WireBackend } from "./backend.ts";
import { findRunning, prepareDataDir, removeDiscovery, writeDiscovery } from "./discovery.ts";
import { logText } from "./failures.ts";
import { closeCodes, limits, times } from "./limits.ts";
import { wireMetrics } from "./metrics.ts";
import { resolveTls, type ReloadableOptions, type WireOptions } from "./options.ts";
import { createPages } from "./pages/index.ts";
import { createPushStore } from "./pushes/index.ts";
import { createDeviceMemory, makeFolder, removeStale, segmentPlace } from "./segments/index.ts";
import { createConditioningStore, createSession, createState, sessionMethods, type Session, type Shared } from "./session/index.ts";
import { sessionSocket } from "./sockets.ts";
import { createUpgrades } from "./upgrade.ts";

export interface WireParts {
  readonly backend: WireBackend;
  readonly options: WireOptions;
  readonly dataDir: string;
  readonly version: string;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Told before anybody can connect; null: no segments on this computer. */
  readonly onSegmentFolder?: (folder: string | null) => void;
  /** How often clients are pinged; shortened by tests. */
  readonly pingEveryMs?: number;
  readonly helloMs?: number;
}

export interface WireServer {
  readonly url: string;
  readonly wsUrl: string;
  readonly clients: () => number;
  /** For a link to the dashboard: `${url}/?ticket=…`, good for one browser and a few minutes. */
  readonly createTicket: (role: Role) => string;
  readonly reload: (options: ReloadableOptions) => void;
  /** Resolves when somebody with the control token asks the sidecar to end (`POST /stop`); ending is the owner's business. */
  readonly stopAsked: Promise<void>;
  readonly close: () => Promise<void>;
}

async function listen(server: Server, port: number, bind: string): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.on("error", (error) =>
      reject(
        new Failure(
          "WIRE_LISTEN_FAILED",
          `expected ${bind} port ${port} to be free; choose another --port or --bind`,
          {},
          { cause: error },
        ),
      ),
    );
    server.listen({ port, host: bind, exclusive: true }, resolve);
  });
  const address: AddressInfo | string | null = server.address();
  if (address === null || typeof address === "string") throw new TypeError("a TCP server has an address with a port");
  return address.port;
}

/** Host part of a URL for an address to listen on: what a local client should connect to. */
function hostOf(bind: string): string {
  if (bind === "0.0.0.0") return "127.0.0.1";
  if (bind === "::") return "[::1]";
  return bind.includes(":") ? `[${bind}]` : bind;
}

/** Starts to listen. Throws WIRE_OPTIONS_*, WIRE_DATA_DIR_UNSAFE, WIRE_ALREADY_RUNNING, WIRE_LISTEN_FAILED, WIRE_DISCOVERY_FAILED. */
export async function startWire({
  backend,
  options,
  dataDir,
  version,
  log,
  metrics,
  onSegmentFolder,
  pingEveryMs = times.pingEveryMs,
  helloMs = times.helloMs,
}: WireParts): Promise<WireServer> {
  const tls = await resolveTls(options);
  await prepareDataDir(dataDir);
  const running = await findRunning(dataDir);
  if (running !== null)
    throw new Failure(
      "WIRE_ALREADY_RUNNING",
      `a sidecar (process ${running.pid}) already serves this data folder; use it, end it, or choose another --data-dir`,
    );

  const place = await segmentPlace(dataDir);
  const stale = await removeStale(place);
  if (stale > 0) log.info(`removed segments of ${stale} ended sidecars`);
  const segmentFolder = await makeFolder(place).catch((error: unknown) => {
    log.warn(`no shared memory, tensors travel in frames: ${logText(error)}`);
    return null;
  });
  onSegmentFolder?.(segmentFolder);

  let reloadable: ReloadableOptions = options;
  let closing = false;
  const sessions = new Map<Session, { readonly socket: WebSocket; unanswered: number }>();
  const counters = wireMetrics(metrics);
  const tokens = createTokens();
  const scheme = tls === null ? "http" : "https";
  let port = options.port;
  const access: Access = {
    tokens,
    browsers: createBrowsers(() => performance.now()),
    rules: () => ({ scheme, port, bind: options.bind, hosts: reloadable.allowHosts, origins: reloadable.allowOrigins }),
  };
  const shared: Shared = {
    backend,
    version,
    log,
    metrics: counters,
    conditioning: createConditioningStore({
      sessionBytes: limits.conditioningBytesPerSession,
      totalBytes: limits.conditioningBytes,
      keys: limits.conditioningKeys,
    }),
    pushes: await createPushStore(
      join(dataDir, "pushed"),
      { pushBytes: limits.pushBytes, open: limits.pushesOpen, storeBytes: limits.pushStoreBytes, storeCount: limits.pushStoreCount },
      { adopt: backend.adoptPushed, forget: backend.forgetPushed },
    ),
    segmentFolder,
    deviceMemory: createDeviceMemory(),
    clients: () => sessions.size,
    nowMs: () => performance.now(),
  };

  let lastSession = 0;
  function connected(socket: WebSocket, role: Role, local: boolean): void {
    lastSession += 1;
    // Behind a proxy every client looks local.
    const ports = local && !options.behindProxy ? shared : { ...shared, segmentFolder: null };
    const state = createState(`s${lastSession}`, role, ports);
    const out = sessionSocket(socket, counters);
    const session = createSession(state, sessionMethods(state, ports), { socket: out, log, metrics: counters, closing: () => closing });
    const life = { socket, unanswered: 0 };
    sessions.set(session, life);
    counters.clients.set(sessions.size);
    const greeting = setTimeout(() => session.greeted() || out.drop(closeCodes.helloTimeout, "no hello"), helloMs);
    socket.on("message", (data, binary) => {
      if (!Array.isArray(data)) void session.receive(data instanceof ArrayBuffer ? new Uint8Array(data) : data, binary);
    });
    socket.on("pong", () => void (life.unanswered = 0));
    // ws closes with the fitting code (too large, too many fragments, bad UTF-8, …); the reason is the client's affair.
    socket.on("error", (error) => log.debug(`${session.id}: ${logText(error)}`));
    socket.on("close", () => {
      clearTimeout(greeting);
      sessions.delete(session);
      counters.clients.set(sessions.size);
      void session.close();
    });
  }

  const refused = (): void => counters.unauthorized.add();
  let stop = () => {};
  const stopAsked = new Promise<void>((resolve) => (stop = resolve));
  const pages = createPages({
    access,
    version,
    log,
    refused,
    secure: tls !== null,
    status: async () => ({ ...(await backend.status()), clients: sessions.size, deviceSegments: shared.deviceMemory.total() }),
    metricsText: metrics.text,
    sample: backend.sample,
    stop: () => stop(),
  });
  const upgrades = createUpgrades({
    access,
    refused,
    connected,
    mayConnect: () => (closing ? "WIRE_SHUTTING_DOWN" : sessions.size >= reloadable.maxClients ? "WIRE_CLIENTS_FULL" : null),
  });
  const checks = { connectionsCheckingInterval: times.httpHeadMs / 2 };
  const server: Server = tls === null ? createServer(checks, pages) : createTlsServer({ ...tls, ...checks, minVersion: "TLSv1.2" }, pages);
  server.headersTimeout = times.httpHeadMs;
  server.requestTimeout = times.httpRequestMs;
  server.maxHeadersCount = 64;
  server.on("upgrade", upgrades.handle);
  // Sockets that are no session yet count too; a little room for pages beside them.
  server.maxConnections = options.maxClients + 64;
  server.on("clientError", (_error, socket) => void socket.destroy());

  const beat = setInterval(() => {
    for (const [session, life] of sessions) {
      if (life.unanswered >= times.missedPings) {
        log.info(`${session.id}: gone without a word`);
        life.socket.terminate();
      } else if (life.socket.readyState === life.socket.OPEN) {
        life.unanswered += 1;
        life.socket.ping();
      }
    }
  }, pingEveryMs);
  beat.unref();

  async function close(): Promise<void> {
    if (closing) return;
    closing = true;
    clearInterval(beat);
    await removeDiscovery(dataDir, tokens.control);
    const stopped = new Promise<void>((resolve) => server.close(() => resolve()));
    const ending = [...sessions].map(async ([session, { socket }]) => {
      socket.close(closeCodes.goingAway, "the sidecar is ending");
      setTimeout(() => socket.terminate(), times.closeGraceMs).unref();
      await session.close();
    });
    await Promise.allSettled(ending);
    upgrades.close();
    server.closeIdleConnections();
    setTimeout(() => server.closeAllConnections(), times.closeGraceMs).unref();
    await stopped;
    if (segmentFolder !== null) await rm(segmentFolder, { recursive: true, force: true }).catch(() => undefined);
  }

  try {
    port = await listen(server, options.port, options.bind);
    const url = `${scheme}://${hostOf(options.bind)}:${port}`;
    const wsUrl = `${url.replace("http", "ws")}/ws`;
    await writeDiscovery(dataDir, { url, ws_url: wsUrl, token: tokens.control, read_token: tokens.read, pid: process.pid, version });
    if (!isLoopback(options.bind))
      log.warn(`listening on ${options.bind}, which other computers can reach (${tls === null ? "behind a proxy" : "TLS"})`);
    return {
      url,
      wsUrl,
      clients: () => sessions.size,
      createTicket: access.browsers.createTicket,
      reload: (next) => void (reloadable = next),
      stopAsked,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

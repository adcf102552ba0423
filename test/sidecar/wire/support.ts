// A wire server on a fake backend, and a small honest client: what the tests of this folder share.
import { mkdtempSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach } from "vitest";
import { WebSocket, type ClientOptions } from "ws";
import { decodeFrame, encodeFrame, type FrameTensor, type JsonObject, type TensorDescriptor } from "../../../protocol/src/index.ts";
import { Failure } from "../../../sidecar/src/failure/index.ts";
import { createLog, createMetrics } from "../../../sidecar/src/telemetry/index.ts";
import { startWire, type Discovery, type WireOptions, type WireServer } from "../../../sidecar/src/wire/index.ts";
import { createFakeBackend } from "./fake-backend.mjs";

export const plainOptions: WireOptions = {
  bind: "127.0.0.1",
  port: 0,
  tlsCert: null,
  tlsKey: null,
  behindProxy: false,
  allowHosts: [],
  allowOrigins: [],
  maxClients: 256,
};

export interface Running {
  readonly server: WireServer;
  readonly backend: ReturnType<typeof createFakeBackend>;
  readonly discovery: Discovery;
  readonly dataDir: string;
  readonly logLines: string[];
  readonly metricsText: () => string;
}

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
export function cleanUp(work: () => Promise<void> | void): void {
  cleanups.push(work);
}

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "refit-wire-"));
  cleanUp(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export async function startFake(
  options: Partial<WireOptions> = {},
  setup: { pingEveryMs?: number; helloMs?: number; dataDir?: string; onSegmentFolder?: (folder: string | null) => void } = {},
): Promise<Running> {
  const dataDir = setup.dataDir ?? temporaryFolder();
  const backend = createFakeBackend(Failure);
  const logLines: string[] = [];
  const metrics = createMetrics();
  const { pingEveryMs, helloMs, onSegmentFolder } = setup;
  const server = await startWire({
    backend,
    dataDir,
    version: "9.9.9",
    metrics,
    options: { ...plainOptions, ...options },
    log: createLog("debug", (line) => void logLines.push(line)),
    ...(onSegmentFolder === undefined ? {} : { onSegmentFolder }),
    ...(pingEveryMs === undefined ? {} : { pingEveryMs }),
    ...(helloMs === undefined ? {} : { helloMs }),
  });
  cleanUp(() => server.close());
  const discovery = JSON.parse(await readFile(join(dataDir, "sidecar.json"), "utf8")) as Discovery;
  return { server, backend, discovery, dataDir, logLines, metricsText: metrics.text };
}

export interface Answer {
  readonly message: JsonObject;
  readonly result: JsonObject;
  readonly code: string | null;
  readonly tensors: readonly FrameTensor[];
}

export interface Client {
  readonly socket: WebSocket;
  readonly notifications: JsonObject[];
  readonly orphans: JsonObject[];
  readonly call: (
    method: string,
    params?: JsonObject,
    tensors?: readonly FrameTensor[],
    segments?: readonly TensorDescriptor[],
  ) => Promise<Answer>;
  /** Resolves when a notification arrives that the test accepts, or has arrived before. */
  readonly heard: (test: (message: JsonObject) => boolean) => Promise<JsonObject>;
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>;
  readonly lastId: () => number;
}

export function bearer(token: string): ClientOptions {
  return { headers: { authorization: `Bearer ${token}` }, perMessageDeflate: false };
}

/** Opens a session; rejects with the HTTP status when it is refused. */
export async function connect(
  running: Running,
  options: ClientOptions = bearer(running.discovery.token),
  protocols: string[] = [],
  greet: JsonObject | null = {},
): Promise<Client> {
  const socket = new WebSocket(running.discovery.ws_url, protocols, options);
  cleanUp(() => socket.terminate());
  const pending = new Map<number, (answer: Answer) => void>();
  const notifications: JsonObject[] = [];
  const orphans: JsonObject[] = [];
  const listeners = new Set<() => void>();
  let lastId = 0;
  socket.on("message", (data: Buffer, binary) => {
    const frame = binary ? decodeFrame(data) : { message: JSON.parse(data.toString("utf8")) as JsonObject, tensors: [] };
    const { message } = frame;
    if ("method" in message) notifications.push(message);
    else {
      const error = message["error"] as { data: { code: string } } | undefined;
      const settle = pending.get(message["id"] as number);
      pending.delete(message["id"] as number);
      if (settle === undefined) orphans.push(message);
      settle?.({ message, result: (message["result"] ?? {}) as JsonObject, code: error?.data.code ?? null, tensors: frame.tensors });
    }
    for (const listener of listeners) listener();
  });
  const closed = new Promise<{ code: number; reason: string }>((resolve) =>
    socket.on("close", (code, reason) => resolve({ code, reason: reason.toString() })),
  );
  await new Promise<void>((resolve, reject) => {
    socket.once("open", resolve);
    socket.once("error", reject);
    socket.once("unexpected-response", (_request, response) => {
      response.resume();
      reject(new Error(`refused with ${response.statusCode}`));
    });
  });
  socket.on("error", () => undefined);
  const client: Client = {
    socket,
    notifications,
    orphans,
    closed,
    lastId: () => lastId,
    call(method, params = {}, tensors = [], segments = []) {
      lastId += 1;
      const message = { jsonrpc: "2.0", id: lastId, method, params };
      const answered = new Promise<Answer>((resolve) => pending.set(message.id, resolve));
      if (tensors.length > 0) socket.send(encodeFrame(message, tensors, segments));
      else socket.send(JSON.stringify(segments.length > 0 ? { ...message, params: { ...params, tensors: segments } } : message));
      return answered;
    },
    heard: (test) =>
      new Promise((resolve) => {
        const look = (): void => {
          const found = [...notifications, ...orphans].find(test);
          if (found === undefined) return;
          listeners.delete(look);
          resolve(found);
        };
        listeners.add(look);
        look();
      }),
  };
  if (greet !== null)
    await client.call("hello", {
      protocolVersions: [1],
      client: { name: "test", version: "1" },
      capabilities: ["segments", "events", "push", "memory"],
      ...greet,
    });
  return client;
}

export const wanted = {
  checkpoint: "c1",
  stack: [{ adapter: "a1", strength: 0.8 }],
  profile: "auto",
  precision: "auto",
  host: "auto",
  mode: "comfyui",
  residuals: false,
  priority: "user",
} as const;

export function latent(bytes: number, fill: number, name = "sample"): FrameTensor {
  return { name, dtype: "u8", shape: [bytes], data: new Uint8Array(bytes).fill(fill) };
}

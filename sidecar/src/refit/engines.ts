import type { HostNotificationParams } from "@refit-sidecar/protocol";
import { LRUCache } from "lru-cache";
import { Failure } from "../failure/index.ts";
import type { Host } from "../host/index.ts";
import { EngineHosts } from "./engine-hosts.ts";
import type { EngineLease, EnginesOptions, EnginesStatus } from "./engines-options.ts";
import { engineBytes, hostKey, placedKey } from "./engine-key.ts";
import type { DeviceName } from "./engine-key.ts";
import { RefitHistory } from "./history.ts";
import { LiveEngine } from "./live-engine.ts";
import type { LiveEngineParts } from "./live-engine.ts";
import { Repair } from "./repair.ts";
import type { EngineSpec, RefitRecord, Wanted } from "./types.ts";

/** A smaller GPU holds the weights of one engine at a time, whichever host it belongs to: a second one would take the memory that steps need. */
const sharedGpuBytes = 15 * 1024 ** 3;

/** All engines, one per spec and device, shared by checkpoints and stacks. Frees the least recently used when room is needed, never one that is leased. */
export class Engines {
  readonly #options: EnginesOptions;
  readonly #nowMs: () => number;
  /** Order of use. Eviction is ours, because it has to respect leases and a budget that can change. */
  readonly #engines = new LRUCache<string, LiveEngine>({ max: 1000 });
  readonly #leases = new Map<LiveEngine, number>();
  readonly #opening = new Map<string, Promise<LiveEngine>>();
  readonly #hosts: EngineHosts;
  readonly #sessionLoads = new WeakMap<Host, number>();
  readonly #waiting = new Set<() => void>();
  /** Hosts whose weights lie on a GPU, with its size. */
  readonly #gpuBytes = new Map<string, number>();
  readonly #history = new RefitHistory();
  /** Asked to be freed while leased: they go when their leases end. */
  readonly #leaving = new Set<string>();
  readonly #repair: Repair;
  readonly #openingOnGpu = new Map<DeviceName, Promise<unknown>>();
  #disposals: Promise<unknown> = Promise.resolve();
  #disposingBytes = 0;
  #engineBuilds = 0;
  #sessionLoadsTotal = 0;
  #closed = false;

  constructor(options: EnginesOptions) {
    this.#options = options;
    this.#hosts = new EngineHosts({
      start: (kind, device) =>
        options.startHost(
          kind,
          this.#ofHost(kind, device).flatMap(({ spec }) => spec.graph ?? []),
          device,
        ),
      keepsSpare: (kind, about) => options.keepsSpare?.(kind, about) ?? false,
      onUp: (kind, device) => {
        for (const engine of this.#ofHost(kind, device)) if (!engine.loaded && engine.wanted !== null) this.#repair.begin(engine);
      },
      renew: options.renew ?? null,
      patienceMs: options.patienceMs ?? 0,
      problem: (device) => this.problem(device),
      onDown: (kind, device, message, wasAsked) => {
        if (!wasAsked) options.emit({ type: "host.crashed", engine: hostKey(kind, device), message });
        for (const engine of this.#ofHost(kind, device)) if (engine.loaded) engine.lost(`the engine host ended (${message})`);
      },
    });
    this.#nowMs = options.nowMs ?? (() => performance.now());
    this.#repair = new Repair((engine) => !this.#closed && this.#engines.peek(engine.id) === engine, options.pause);
  }

  /** Where hosts of a kind run. */
  devices(kind: string): readonly DeviceName[] {
    return this.#options.devices?.(kind) ?? [null];
  }

  /** The engine of that spec on that device, made when there is none; not loaded before its first `bring`. Throws REFIT_NO_ROOM. */
  async acquire(spec: EngineSpec, device: DeviceName = this.devices(spec.hostKind)[0] ?? null): Promise<EngineLease> {
    if (this.#closed) throw new Failure("HOST_CLOSED", "the sidecar is ending; no engine is handed out any more");
    const key = placedKey(spec, device);
    this.#leaving.delete(key);
    const engine = this.#engines.get(key) ?? (await this.#open(key, spec, device));
    // An engine that was evicted between opening and here goes back: it holds nothing yet.
    if (this.#engines.peek(key) !== engine) this.#engines.set(key, engine);
    this.#leases.set(engine, (this.#leases.get(engine) ?? 0) + 1);
    let held = true;
    return {
      engine,
      release: () => {
        if (!held) return;
        held = false;
        this.#release(engine);
      },
    };
  }

  /** A host tells how one of its engines serves. */
  noteServing({ engine: id, placement, quantised }: HostNotificationParams<"serving">): void {
    const { tier, refused, base, deviceBytes, streamedBytes } = placement;
    const engine = this.#engines.peek(id);
    if (engine === undefined) return;
    engine.serving = {
      tier,
      refused,
      base,
      deviceBytes,
      streamedBytes,
      quantised:
        quantised === undefined
          ? null
          : { format: quantised.format, way: quantised.way, weightError: quantised.weightError, outputError: quantised.outputError },
    };
    this.#options.emit({ type: "engine.serving", engine: id, serving: engine.serving });
  }

  #release(engine: LiveEngine): void {
    const left = (this.#leases.get(engine) ?? 1) - 1;
    if (left > 0) this.#leases.set(engine, left);
    else {
      this.#leases.delete(engine);
      if (this.#leaving.delete(engine.id)) this.#dispose(engine.id);
    }
    for (const wake of [...this.#waiting]) wake();
  }

  #open(key: string, spec: EngineSpec, device: DeviceName): Promise<LiveEngine> {
    const opening = this.#opening.get(key);
    if (opening !== undefined) return opening;
    // Two that open at the same time must not both find the device free.
    const asks = this.#options.asksDevice?.(spec.hostKind) === true;
    const before = (asks ? this.#openingOnGpu.get(device) : undefined) ?? Promise.resolve();
    const opened = before
      .then(() => this.#makeRoom(spec, device))
      .then(() => {
        const engine = this.#create(spec, device);
        this.#engines.set(key, engine);
        return engine;
      })
      .finally(() => void this.#opening.delete(key));
    this.#opening.set(key, opened);
    if (asks)
      this.#openingOnGpu.set(
        device,
        opened.catch(() => undefined),
      );
    return opened;
  }

  #create(spec: EngineSpec, device: DeviceName): LiveEngine {
    const { emit } = this.#options;
    const parts: LiveEngineParts = {
      nowMs: this.#nowMs,
      host: () => this.#hosts.host(spec.hostKind, device),
      onState: (state) => {
        emit({ type: "engine.state", engine: engine.id, state: state.state, reason: "reason" in state ? state.reason : null });
        // A commit that did not complete is repaired at once; a host that died repairs its engines when it is up again.
        if (state.state === "UNKNOWN" && engine.loaded) queueMicrotask(() => this.#repair.begin(engine));
      },
      onStarted: ({ full, writes }) => emit({ type: "refit.started", engine: engine.id, full, writes }),
      onLoaded: (host, sessionLoads) => {
        this.#hosts.supervisor(spec.hostKind, device).worked();
        this.#sessionLoadsTotal += sessionLoads - (this.#sessionLoads.get(host) ?? 0);
        this.#sessionLoads.set(host, sessionLoads);
      },
      onRecord: (record, wanted, failure) => this.#record(record, wanted, failure),
    };
    const engine: LiveEngine = new LiveEngine(spec, parts, device);
    return engine;
  }

  #record(record: RefitRecord, wanted: Wanted, failure: Failure | null): void {
    this.#history.add(record);
    const { engine, writes } = record;
    if (failure !== null) return this.#options.emit({ type: "refit.failed", engine, code: failure.code, message: failure.message });
    if (record.kind === "load") this.#engineBuilds += 1;
    const stack = wanted.adapters.map(({ id, file }) => ({ id, strength: file.strength }));
    this.#options.emit({
      type: "refit.committed",
      engine,
      ms: record.prepareMs + record.commitMs,
      writes,
      bytes: record.bytesWritten,
      stack,
    });
  }

  #ofHost(kind: string, device: DeviceName): LiveEngine[] {
    return [...this.#engines.values()].filter((engine) => engine.spec.hostKind === kind && engine.device === device);
  }

  /** Size of the GPU that a host's weights lie on; null: main memory. */
  async #gpuOf(kind: string, device: DeviceName): Promise<number | null> {
    if (this.#options.asksDevice?.(kind) !== true) return null;
    const { about } = await this.#hosts.host(kind, device);
    if (about.device.type !== "cuda") return null;
    this.#gpuBytes.set(hostKey(kind, device), about.memory.totalBytes);
    return about.memory.totalBytes;
  }

  /**
   * Frees idle engines of the same memory, least recently used first, until the new one fits; waits for leased ones. Returns when the memory is really
   * free. On a GPU an engine that is alone is always let through: its host streams, or says what it lacks.
   */
  async #makeRoom(spec: EngineSpec, device: DeviceName): Promise<void> {
    const bytes = engineBytes(spec);
    const gpu = await this.#gpuOf(spec.hostKind, device);
    const beside = (): LiveEngine[] =>
      [...this.#engines.rkeys()]
        .flatMap((key) => this.#engines.peek(key) ?? [])
        .filter((engine) => this.#gpuBytes.has(hostKey(engine.spec.hostKind, engine.device)) === (gpu !== null))
        .filter((engine) => (gpu === null && this.#options.ownMemory !== true) || engine.device === device);
    const deadline = this.#nowMs() + (this.#options.roomTimeoutMs ?? 30_000);
    for (;;) {
      const budget = this.#options.budgetBytes(gpu);
      const fits = (): boolean => {
        const others = beside();
        if (gpu !== null && (others.length === 0 || gpu < sharedGpuBytes)) return others.length === 0;
        return others.reduce((sum, engine) => sum + engine.bytes, 0) + bytes <= budget;
      };
      for (const engine of beside()) {
        if (fits()) break;
        if (!this.#leases.has(engine)) this.#dispose(engine.id);
      }
      if (fits()) break;
      const left = deadline - this.#nowMs();
      const never = gpu === null && bytes > budget;
      if (never || left <= 0) {
        const room =
          gpu !== null && gpu < sharedGpuBytes
            ? `a GPU of ${(gpu / 1024 ** 3).toFixed(0)} GiB, which holds one engine at a time`
            : `${budget} bytes of engine memory`;
        throw new Failure(
          "REFIT_NO_ROOM",
          `expected room for an engine of ${bytes} bytes within ${room}${never ? "" : "; the loaded engines are all in use"}. Raise --engine-memory, choose a smaller precision, or end other runs.`,
          { bytes, budget },
        );
      }
      await this.#nextRelease(left);
    }
    await this.#disposals;
  }

  #dispose(key: string): void {
    const engine = this.#engines.peek(key);
    if (engine === undefined) return;
    this.#engines.delete(key);
    const { bytes } = engine;
    this.#disposingBytes += bytes;
    // A host that cannot unload has died, and the memory with it.
    this.#disposals = Promise.all([this.#disposals, engine.unload().catch(() => undefined)]).then(
      () => void (this.#disposingBytes -= bytes),
    );
  }

  #nextRelease(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, timeoutMs);
      this.#waiting.add(wake);
    });
  }

  /** Null when there is none by this id. */
  get(id: string): LiveEngine | null {
    return this.#engines.peek(id) ?? null;
  }

  /** Unloads one engine, or all (null). One in use goes when its leases end. Resolves when the memory of the freed ones is free. */
  async free(
    id: string | null,
  ): Promise<{ readonly freed: readonly string[]; readonly queued: readonly string[]; readonly bytes: number }> {
    const chosen = [...this.#engines.values()].filter((engine) => id === null || engine.id === id);
    const queued = chosen.filter((engine) => this.#leases.has(engine));
    const freed = chosen.filter((engine) => !this.#leases.has(engine));
    for (const engine of queued) this.#leaving.add(engine.id);
    for (const engine of freed) this.#dispose(engine.id);
    await this.#disposals;
    return {
      freed: freed.map((engine) => engine.id),
      queued: queued.map((engine) => engine.id),
      bytes: freed.reduce((sum, engine) => sum + engine.bytes, 0),
    };
  }

  /** Weights of one engine, or of all (null), leave the device and come back with the next use. Those that a step or a refit needs stay. */
  async offload(
    id: string | null,
  ): Promise<{ readonly freed: readonly string[]; readonly queued: readonly string[]; readonly bytes: number }> {
    const chosen = [...this.#engines.values()].filter((engine) => id === null || engine.id === id);
    const rows = await Promise.all(chosen.map(async (engine) => ({ id: engine.id, bytes: await engine.offload() })));
    return {
      freed: rows.filter(({ bytes }) => bytes > 0).map((row) => row.id),
      queued: [],
      bytes: rows.reduce((sum, { bytes }) => sum + bytes, 0),
    };
  }

  get status(): EnginesStatus {
    return {
      engines: [...this.#engines.values()].map((engine) => {
        const { structure, precision, profile, hostKind } = engine.spec;
        return {
          engine: engine.id,
          spec: { structure, precision, profile, hostKind },
          device: engine.device,
          state: engine.state,
          sinceMs: engine.sinceMs,
          generation: engine.generation,
          bytes: engine.bytes,
          leases: this.#leases.get(engine) ?? 0,
          serving: engine.loaded ? engine.serving : null,
          losses: engine.losses,
        };
      }),
      hosts: this.#hosts.status,
      engineBuilds: this.#engineBuilds,
      sessionLoads: this.#sessionLoadsTotal,
      bytes: [...this.#engines.values()].reduce((sum, engine) => sum + engine.bytes, this.#disposingBytes),
      budgetBytes: this.#budget(),
      totals: this.#history.totals,
      history: this.#history.records,
    };
  }

  /** Of all devices together: each GPU that holds or held engines counts once, main memory where there is none. */
  #budget(): number {
    const { budgetBytes } = this.#options;
    const { status } = this.#hosts;
    const gpus = new Map([...this.#gpuBytes].map(([key, bytes]) => [status[key]?.on ?? null, bytes]));
    return gpus.size === 0 ? budgetBytes(null) : [...gpus.values()].reduce((sum, bytes) => sum + budgetBytes(bytes), 0);
  }

  /** How many engines a device has. */
  on(device: DeviceName): number {
    return [...this.#engines.values()].filter((engine) => engine.device === device).length;
  }

  /** The engine of a spec on a device; null when it is not there. */
  find(spec: EngineSpec, device: DeviceName): LiveEngine | null {
    return this.#engines.peek(placedKey(spec, device)) ?? null;
  }

  /** A host of a kind, whichever is up; else it is started on the first device that is not down: to ask what hosts of that kind are like. */
  host(kind: string): Promise<Host> {
    const devices = this.devices(kind);
    const running = this.#hosts.running();
    const isUp = (name: DeviceName): boolean => running.get(hostKey(kind, name))?.gone() === false;
    const device = devices.find(isUp) ?? devices.find((name) => !this.isDown(kind, name)) ?? devices[0] ?? null;
    return this.#hosts.supervisor(kind, device).host();
  }

  /** Hosts that are up, by `hostKey`. Starts none. */
  runningHosts(): ReadonlyMap<string, Host> {
    return this.#hosts.running();
  }

  /** A host of that kind has died there, or is being renewed, and does not serve again yet; or the device is away. */
  isDown(kind: string, device: DeviceName): boolean {
    return this.#hosts.isDown(kind, device);
  }

  /** Why a device is away; null: it is there. */
  problem(device: DeviceName): string | null {
    return this.#options.problem?.(device) ?? null;
  }

  /**
   * The device's hosts begin anew, and serve the same engines afterwards. No new run goes there meanwhile; where another device serves, steps that are under
   * way end first.
   */
  async renew(device: DeviceName): Promise<void> {
    await this.#hosts.renew(device);
    const own = [...this.#engines.values()].filter((engine) => engine.device === device);
    // What cannot be brought back is repaired, or says so to whoever wants it.
    await Promise.all(own.map((engine) => engine.recover().catch(() => undefined)));
  }

  /** Ends every host process. */
  async close(): Promise<void> {
    this.#closed = true;
    // At once: a host that is waited for would not come any more.
    await Promise.all([this.#hosts.close(), this.#options.close?.()]);
  }
}

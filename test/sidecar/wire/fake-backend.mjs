// A backend without engines, for tests of the wire, of the Python client and for the wire's benchmark. A step gives its `sample` back as `out_sample`,
// so that a lost, late or crossed reply shows. Special names make it slow or make it fail.

const hash = (letter) => letter.repeat(64);
const entry = (id, kind, name, more = {}) => ({
  id,
  kind,
  name,
  folder: "f1",
  sizeBytes: 1024,
  sha256: hash(id.at(-1)),
  proof: "full",
  family: "sd15",
  variant: null,
  structure: kind === "checkpoint" ? hash("5") : null,
  kinds: kind === "adapter" ? ["lora"] : [],
  delta: kind === "adapter" ? "ready" : "none",
  problem: null,
  ...more,
});

/** Resolves when the signal aborts or the time is over. */
function rest(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}

/**
 * `Failure` is the class that the server under test knows (source in TypeScript tests, build elsewhere).
 * @param {typeof import("../../../sidecar/src/failure/index.ts").Failure} Failure
 * @returns {import("../../../sidecar/src/wire/backend.ts").WireBackend & { emit: (event: object) => void, seen: Record<string, unknown[]>, leases: Map<string, string>, pinned: Set<string> }}
 */
export function createFakeBackend(Failure) {
  const entries = [
    entry("a1", "adapter", "styles/ink é.safetensors"),
    entry("a2", "adapter", "sevens.safetensors"),
    entry("c1", "checkpoint", "base.safetensors"),
  ];
  const listeners = new Set();
  const history = [];
  const leases = new Map();
  const pushed = new Map();
  const pinned = new Set();
  const seen = {
    prepare: [],
    release: [],
    step: [],
    sample: [],
    loopSteps: [],
    shared: [],
    strays: [],
    replies: [],
    folders: [],
    forgotten: [],
    room: [],
  };
  let paused = false;
  let lastLease = 0;
  const startMs = performance.now();

  const find = (test) => {
    const found = entries.find(test);
    if (found === undefined) throw new Failure("CATALOG_ENTRY_UNKNOWN", "expected an entry of the catalog");
    return { generation: entries.length, entry: found };
  };
  const ports = (name) => [{ name, dtype: "f32", shape: ["batch", 4, "height", "width"] }];
  const job = {
    id: "j1",
    kind: "warm",
    title: "warm base.safetensors",
    state: "running",
    stage: "delta",
    done: 1,
    total: 4,
    remainingMs: 1200,
    problem: null,
  };
  const engines = () =>
    [...new Set(leases.values())].map((engine) => ({
      id: engine,
      structure: hash("5"),
      family: "sd15",
      precision: "fp32",
      host: "onnxruntime",
      device: "cpu",
      state: "LIVE",
      reason: null,
      weights: { checkpoint: "c1", stack: [] },
      memoryBytes: 1000,
      leases: leases.size,
      steps: seen.step.length,
      lastRefit: null,
      serving: null,
      losses: [],
    }));

  return {
    seen,
    leases,
    pinned,
    emit(event) {
      const stamped = { atMs: performance.now() - startMs, at: new Date().toISOString(), event };
      history.push(stamped);
      for (const listener of listeners) listener(stamped);
    },
    "catalog.list": async ({ kind, limit = 1000, after = "" }) => {
      const rows = entries
        .filter((one) => (kind === undefined || one.kind === kind) && one.name > after)
        .sort((a, b) => (a.name < b.name ? -1 : 1));
      return { generation: entries.length, entries: rows.slice(0, limit), next: rows.length > limit ? rows[limit - 1].name : null };
    },
    "catalog.get": async (params) =>
      find((one) =>
        "id" in params
          ? one.id === params.id
          : "sha256" in params
            ? one.sha256 === params.sha256
            : one.folder === params.folder && one.name === params.name,
      ),
    "adapter.find": async ({ tensors }) => ({
      adapter: tensors[0].sha256 === hash("2") ? { id: "a2", sha256: hash("2"), name: "sevens.safetensors" } : null,
    }),
    "catalog.notes": async ({ ids }) => ({
      notes: ids.map((id) => ({ id, title: null, base: "SD 1.5", triggerWords: ["word"], rank: 8, description: null, preview: false })),
    }),
    "catalog.preview": async () => ({ picture: null }),
    "adapter.layers": async () => ({ checkpoint: null, layers: [], ignored: 0, failed: 0 }),
    "engine.restack": async () => ({ ms: 1, refit: null }),
    "device.restart": async () => ({ restarted: [] }),
    "engine.draw": async () => ({ png: "", width: 0, height: 0, shows: "digits", ms: { refit: 0, steps: 0 } }),
    "engine.history": async () => ({ records: [] }),
    "telemetry.figures": async () => ({ figures: [] }),
    "telemetry.log": async () => ({ lines: [] }),
    "settings.list": async () => ({ settings: [] }),
    "cache.list": async () => ({ parts: [] }),
    "folders.list": async () => ({ folders: [{ id: "f1", kind: "adapters", label: "loras", entries: 2, problem: null }] }),
    "folders.add": async ({ path, kind }) => {
      seen.folders.push(path);
      if (path.includes("missing")) throw new Failure("CATALOG_FOLDER_REFUSED", `expected a folder, ${path} is none`);
      return { folder: { id: "f2", kind, label: path.split("/").at(-1), entries: 0, problem: null } };
    },
    "folders.remove": async () => ({}),
    "watch.pause": async () => ({ paused: (paused = true) }),
    "watch.resume": async () => ({ paused: (paused = false) }),
    "engine.prepare": async (params, context) => {
      seen.prepare.push(params);
      const [word, code] = params.checkpoint.split(":");
      if (word === "fail") throw new Failure(code, "expected a file that can be read, /home/somebody/secret models/x.safetensors is none");
      if (word === "throw") throw new Error("unexpected: /home/somebody/secret models/x.safetensors");
      if (word === "room") seen.room.push(await context.makeRoom(1234));
      for (let done = 1; done <= 3; done += 1) context.progress({ stage: "delta", done, total: 3, remainingMs: null, text: "" });
      if (word === "slow") await rest(20_000, context.signal);
      lastLease += 1;
      const lease = `l${lastLease}`;
      leases.set(lease, `e-${params.checkpoint}`);
      return {
        lease,
        leaseIdleMs: 120_000,
        engine: `e-${params.checkpoint}`,
        host: "onnxruntime",
        precision: "fp32",
        inputs: ports("sample"),
        outputs: ports("out_sample"),
        ms: { total: 1, delta: 0, load: 0, refit: 0 },
        refit: null,
        adapters: params.stack.map(({ adapter }) => ({
          adapter,
          sha256: hash("1"),
          used: 3,
          ignored: 1,
          failed: 0,
          ignoredKeys: [{ key: "lora_te_x", reason: "text encoder" }],
          failedKeys: [],
        })),
      };
    },
    "engine.ahead": async () => ({ brought: true }),
    "engine.release": async ({ lease }) => {
      seen.release.push(lease);
      leases.delete(lease);
      return {};
    },
    "engine.warm": async () => ({ job: "j1" }),
    "engine.list": async () => ({ engines: engines() }),
    "engine.refit": async () => ({ job: "j1" }),
    "engine.rebuild": async ({ engine }) => {
      if (engine === "none") throw new Failure("ENGINE_UNKNOWN", "expected an engine of engine.list");
      return { job: "j1" };
    },
    "engine.free": async () => ({ freed: [], queued: [], bytes: 0 }),
    "jobs.list": async () => ({ jobs: [job], queued: 0 }),
    "jobs.cancel": async () => ({ cancelled: true }),
    "jobs.pause": async () => ({ paused: true }),
    "jobs.resume": async () => ({ paused: false }),
    share: async ({ medium, device, bytes }) => {
      if (device !== "here") return { reason: "the UI draws on another device than the engine" };
      const name = `shared-${seen.shared.length}`;
      const memory = {
        name,
        bytes,
        handle: "aGVyZQ==",
        bell: "YmVsbA==",
        proof: name.padEnd(64, "0"),
        medium,
        released: false,
        release: async () => void (memory.released = true),
      };
      seen.shared.push(memory);
      return { memory };
    },
    step: async ({ lease, inputs, reply }, context) => {
      seen.step.push({ lease, inputs: inputs.map(({ name, key, data }) => ({ name, key, bytes: data?.byteLength ?? "placed" })) });
      const given = inputs.find(({ name }) => name === "sample");
      // A large one still lies in the client's segment.
      if (given?.read === null) {
        seen.replies.push(reply);
        const { name: _, segment, ...place } = given;
        if (seen.shared.find(({ name }) => name === segment)?.released !== false)
          throw new Failure("HOST_SEGMENT_STALE", "this host process does not have the device segment");
        const output = { ...place, name: "out_sample", offset: (reply?.offset ?? 0) + (seen.strays.length > 0 ? 2 ** 20 : 0), segment: 0 };
        delete output.read;
        return { ms: { queue: 0, run: 0 }, outputs: [], placed: reply === undefined ? [] : [output] };
      }
      const sample = given !== undefined && "segment" in given ? await given.read() : given;
      if (sample === undefined) throw new Failure("STEP_INPUT_INVALID", "expected an input called sample");
      const delay = inputs.find(({ name }) => name === "delay_ms");
      // A running step is not interrupted.
      if (delay !== undefined) await rest(delay.data[0] + 256 * delay.data[1]);
      void context;
      return { ms: { queue: 0, run: 0 }, outputs: [{ ...sample, name: "out_sample" }], placed: [] };
    },
    sample: async ({ params, tensors }, context) => {
      seen.sample.push({ params, tensors: tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape })) });
      const latent = tensors.find(({ name }) => name === "latent");
      if (latent === undefined) throw new Failure("SAMPLE_INVALID", "expected a tensor called latent", {});
      const total = params.schedule.steps ?? params.schedule.sigmas.length - 1;
      for (let done = 1; done <= total; done += 1) {
        // A running step is not interrupted; a cancelled loop takes no further one.
        if (context.signal.aborted) throw new Failure("HOST_CANCELLED", "the loop was cancelled between two steps", {});
        seen.loopSteps.push(done);
        if (params.cfg === 99) await rest(20);
        context.progress({ stage: "sample", done, total, remainingMs: 0, text: "Denoising" });
      }
      return {
        latents: { ...latent, name: "latents" },
        result: {
          engine: "e1",
          host: "fake",
          precision: "fp32",
          seeds: params.seeds,
          steps: total,
          calls: total,
          refits: { count: 0, writes: 0, bytes: 0 },
          ms: { total: 1, queue: 0, prepare: 0, run: 1 },
          adapters: [],
        },
      };
    },
    adoptPushed: async ({ sha256, path, name, sizeBytes }) => {
      pushed.set(sha256, { path, name, sizeBytes });
      return { id: `p-${sha256.slice(0, 8)}` };
    },
    forgetPushed: (sha256) => {
      if (pinned.has(sha256)) return false;
      seen.forgotten.push(sha256);
      pushed.delete(sha256);
      return true;
    },
    pushed,
    status: async () => ({
      version: "0.0.0",
      startedAt: "2026-01-01T00:00:00.000Z",
      uptimeMs: performance.now() - startMs,
      watch: { paused, folders: 1 },
      catalog: { generation: entries.length, adapters: 2, checkpoints: 1, problems: 0, deltasReady: 2 },
      hosts: [{ kind: "onnxruntime", available: true, device: "cpu", pid: null, restarts: 0, problem: null }],
      devices: [],
      totals: { engineBuilds: 0, sessionLoads: 0, refits: 0, steps: seen.step.length },
      engines: engines(),
      live: null,
      jobs: { queued: 0, running: 1, paused: false, remainingMs: null },
      memory: { processBytes: process.memoryUsage.rss(), enginesBytes: 1000, budgetBytes: 1e9 },
    }),
    history: () => history,
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}

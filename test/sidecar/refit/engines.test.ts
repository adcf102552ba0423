import { beforeEach, describe, expect, it } from "vitest";
import { Failure } from "../../../sidecar/src/failure/index.ts";
import { engineBytes, engineKey, Engines, type EngineSpec } from "../../../sidecar/src/refit/index.ts";
import { fakeHost, type FakeHost } from "./fake-host.ts";
import { names, spec, wanted } from "./small-stack.ts";

let hosts: FakeHost[];
let events: string[];
let pauses: number[];
/** Three parameters of 2x4 f32. */
const size = engineBytes(spec());
const make = (budgetBytes: number | (() => number) = 10 * size, roomTimeoutMs = 50) =>
  new Engines({
    startHost: async () => {
      const host = fakeHost(100 + hosts.length);
      hosts.push(host);
      return host;
    },
    budgetBytes: typeof budgetBytes === "number" ? () => budgetBytes : budgetBytes,
    roomTimeoutMs,
    pause: async (ms) => void pauses.push(ms),
    emit: (event) => events.push(event.type === "engine.state" ? `${event.type} ${event.state}` : event.type),
  });
beforeEach(() => {
  hosts = [];
  events = [];
  pauses = [];
});
const other = (letter: string): EngineSpec => spec(letter.repeat(64));

describe("engineKey", () => {
  it("knows structure, precision, profile, host and variant, never weights", () => {
    const base = spec();
    const keys = [
      base,
      other("o"),
      { ...base, precision: "f16" as const },
      { ...base, profile: "small" },
      { ...base, hostKind: "torch" },
      { ...base, graph: { folder: "anywhere", variant: "fp32" } },
    ].map(engineKey);
    expect(new Set(keys).size).toBe(keys.length);
    expect(engineKey({ ...base, graph: { folder: "one", variant: "fp32" } })).toBe(
      engineKey({ ...base, graph: { folder: "two", variant: "fp32" } }),
    );
  });
});

describe("Engines", () => {
  it("shares one engine among checkpoints and stacks: two refits, not two engines", async () => {
    const engines = make();
    const lease = await engines.acquire(spec());
    const again = await engines.acquire(spec());
    expect(again.engine).toBe(lease.engine);
    for (const state of [wanted("x"), wanted("y"), wanted("x", ["ab", 1]), wanted("y")]) await lease.engine.bring(state);
    expect(engines.status).toMatchObject({ engineBuilds: 1, sessionLoads: 1, totals: { loads: 1, refits: 3, recoveries: 0, failures: 0 } });
    expect(hosts).toHaveLength(1);
    expect(hosts[0]?.calls.filter((call) => call === "load")).toHaveLength(1);
    await engines.close();
  });

  it("tells what a refit lost of each adapter, until the host is gone", async () => {
    const engines = make();
    const lease = await engines.acquire(spec());
    await lease.engine.bring(wanted("x"));
    expect(engines.status.engines[0]?.losses).toEqual([]);
    await lease.engine.bring(wanted("x", ["ab", 1]));
    expect(engines.status.engines[0]?.losses).toMatchObject([{ projection: 0.31, lostShare: 0.8, merged: 3, branched: 1 }]);
    lease.engine.lost("the host ended");
    expect(engines.status.engines[0]?.losses).toEqual([]);
    await engines.close();
  });

  it("a request's own limit of loss reaches the host, also when nothing else changes", async () => {
    const engines = make();
    const lease = await engines.acquire(spec());
    const state = wanted("x", ["ab", 1]);
    const limited = (adapterLoss: number) => ({ ...state, desired: { ...state.desired, adapterLoss } });
    for (const each of [state, limited(0.3), limited(0.3), limited(0), state]) await lease.engine.bring(each);
    expect(hosts[0]?.limits).toEqual([null, 0.3, 0, null]);
    expect(engines.status.totals).toMatchObject({ loads: 1, refits: 3 });
    await engines.close();
  });

  it("tells how an engine serves in its status and as an event, until its host is gone", async () => {
    const engines = make();
    const lease = await engines.acquire(spec());
    await lease.engine.bring(wanted("x"));
    const placement = {
      base: "resident",
      tier: "CUDA graphs",
      deviceBytes: 9,
      streamedBytes: 1,
      refused: [{ steps: "batch 1", reason: "compiled output differs by 0.2" }],
    };
    const quantised = { format: "fp8" as const, way: "rowwise", layers: 3, whole: [], weightError: 0.02, outputError: 0.03 };
    engines.noteServing({ engine: lease.engine.id, placement, quantised });
    engines.noteServing({ engine: "unknown", placement });
    expect(events.filter((event) => event === "engine.serving")).toHaveLength(1);
    const { layers: _, whole: __, ...errors } = quantised;
    expect(engines.status.engines[0]?.serving).toEqual({ ...placement, quantised: errors });
    lease.engine.lost("the host ended");
    expect(engines.status.engines[0]?.serving).toBeNull();
    await engines.close();
  });

  it("opens one engine for requests that come together", async () => {
    const engines = make();
    const [a, b] = await Promise.all([engines.acquire(spec()), engines.acquire(spec())]);
    expect(a.engine).toBe(b.engine);
    expect(engines.status.engines[0]).toMatchObject({ leases: 2, bytes: size });
    a.release();
    a.release();
    expect(engines.status.engines[0]?.leases).toBe(1);
  });

  it("frees the least recently used idle engine when room is needed, and waits until its memory is free", async () => {
    const engines = make(2 * size);
    for (const letter of ["1", "2"]) {
      const lease = await engines.acquire(other(letter));
      await lease.engine.bring(wanted("x"));
      lease.release();
    }
    (await engines.acquire(other("1"))).release();
    const third = await engines.acquire(other("3"));
    expect([...(hosts[0]?.engines.keys() ?? [])]).toEqual([engineKey(other("1"))]);
    await third.engine.bring(wanted("x"));
    expect(engines.status.engines.map(({ engine }) => engine).sort()).toEqual([engineKey(other("1")), engineKey(other("3"))]);
    expect(engines.status.bytes).toBe(2 * size);
  });

  it("never frees an engine in use: a new one waits for its release", async () => {
    const engines = make(size, 10_000);
    const first = await engines.acquire(other("1"));
    await first.engine.bring(wanted("x"));
    let opened = false;
    const second = engines.acquire(other("2")).then((lease) => {
      opened = true;
      return lease;
    });
    await new Promise<void>((resolve) => setImmediate(resolve));
    expect(opened).toBe(false);
    expect(hosts[0]?.engines.size).toBe(1);
    first.release();
    await (await second).engine.bring(wanted("x"));
    expect([...(hosts[0]?.engines.keys() ?? [])]).toEqual([engineKey(other("2"))]);
  });

  it("gives up with REFIT_NO_ROOM when the engines in use stay in use, and at once when it could never fit", async () => {
    const engines = make(size, 20);
    await engines.acquire(other("1"));
    await expect(engines.acquire(other("2"))).rejects.toMatchObject({ code: "REFIT_NO_ROOM" });
    await expect(engines.acquire(spec("b".repeat(64), [...names, "d"]))).rejects.toMatchObject({ code: "REFIT_NO_ROOM" });
  });

  describe("on a GPU", () => {
    const gib = 1024 ** 3;
    const onGpu = (gpuBytes: number, budget = 10 * size, roomTimeoutMs = 50) =>
      new Engines({
        startHost: async (kind) => {
          const host = fakeHost(100 + hosts.length, kind === "onnxruntime" ? null : gpuBytes);
          hosts.push(host);
          return host;
        },
        asksDevice: (kind) => kind !== "onnxruntime",
        budgetBytes: (gpu) => (gpu === null ? 10 * size : budget),
        roomTimeoutMs,
        emit: () => undefined,
      });
    const of = (hostKind: string, letter: string): EngineSpec => ({ ...other(letter), hostKind });
    const bring = async (engines: Engines, engine: EngineSpec) => {
      const lease = await engines.acquire(engine);
      await lease.engine.bring(wanted("x"));
      return lease;
    };
    const loaded = (): number[] => hosts.map(({ engines }) => engines.size);

    it("of less than 16 GB two engines never hold weights at once, not even in two hosts", async () => {
      const engines = onGpu(8 * gib);
      (await bring(engines, of("torch", "1"))).release();
      (await bring(engines, of("tensorrt", "1"))).release();
      expect(loaded()).toEqual([0, 1]);
      (await bring(engines, of("torch", "2"))).release();
      expect(loaded()).toEqual([1, 0]);
    });
    it("of less than 16 GB an engine in use is waited for, then named as what is in the way; two that open together take turns", async () => {
      const engines = onGpu(8 * gib);
      const first = await bring(engines, of("torch", "1"));
      await expect(engines.acquire(of("tensorrt", "1"))).rejects.toMatchObject({
        code: "REFIT_NO_ROOM",
        message: expect.stringContaining("8 GiB, which holds one engine at a time") as string,
      });
      first.release();
      const both = await Promise.allSettled([bring(engines, of("torch", "3")), bring(engines, of("tensorrt", "3"))]);
      expect(both.map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
      expect(loaded()).toEqual([1, 0]);
    });
    it("of 16 GB or more engines share the budget; those in main memory are counted apart", async () => {
      const engines = onGpu(16 * gib, 2 * size);
      for (const [kind, letter] of [
        ["onnxruntime", "1"],
        ["torch", "1"],
        ["tensorrt", "1"],
      ] as const)
        (await bring(engines, of(kind, letter))).release();
      expect(loaded()).toEqual([1, 1, 1]);
      (await bring(engines, of("torch", "2"))).release();
      expect(loaded()).toEqual([1, 1, 1]);
    });
    it("an engine larger than the device goes to its host alone, which streams it or says what it lacks", async () => {
      const engines = onGpu(24 * gib, size / 2);
      (await bring(engines, of("torch", "1"))).release();
      expect(loaded()).toEqual([1]);
    });
  });

  it("asks for the budget every time, so that a reloaded configuration counts", async () => {
    let budget = size;
    const engines = make(() => budget, 5);
    await engines.acquire(other("1"));
    await expect(engines.acquire(other("2"))).rejects.toMatchObject({ code: "REFIT_NO_ROOM" });
    budget = 2 * size;
    await expect(engines.acquire(other("2"))).resolves.toBeDefined();
  });

  it("repairs an engine by itself after a commit that was cut short", async () => {
    const engines = make();
    const { engine } = await engines.acquire(spec());
    await engine.bring(wanted("x"));
    hosts[0]?.failNext("commit", new Failure("HOST_FILE_CHANGED", "changed"), { cutShort: true });
    await expect(engine.bring(wanted("x", ["ab", 1]))).rejects.toMatchObject({ code: "HOST_FILE_CHANGED" });
    await expect.poll(() => engine.state.state).toBe("LIVE");
    expect(engine.state).toMatchObject({ weights: wanted("x").desired });
    expect(events).toEqual([
      "refit.started",
      "engine.state LIVE",
      "refit.committed",
      "engine.state NEEDS_REFIT",
      "refit.started",
      "engine.state UNKNOWN",
      "engine.state UNKNOWN",
      "refit.failed",
      "refit.started",
      "engine.state LIVE",
      "refit.committed",
    ]);
  });

  it("builds an engine anew in the background when writing all of it did not help", async () => {
    const engines = make();
    const { engine } = await engines.acquire(spec());
    await engine.bring(wanted("x"));
    hosts[0]?.corrupt("b");
    hosts[0]?.failNext("commit", new Failure("HOST_FILE_CHANGED", "changed"), { cutShort: true });
    await expect(engine.bring(wanted("x", ["ab", 1]))).rejects.toMatchObject({ code: "HOST_FILE_CHANGED" });
    await expect.poll(() => engine.state.state).toBe("LIVE");
    expect(engine.state).toMatchObject({ weights: wanted("x").desired });
    expect(hosts[0]?.calls.filter((call) => ["load", "prepare", "unload"].includes(call))).toEqual([
      "load",
      "prepare",
      "prepare",
      "unload",
      "load",
    ]);
    expect(engines.status.totals).toMatchObject({ loads: 1, recoveries: 1, failures: 2 });
  });

  it("tries an engine that stays wrong ever more rarely, and says why all the while", async () => {
    const engines = make();
    const { engine } = await engines.acquire(spec());
    await engine.bring(wanted("x"));
    hosts[0]?.corrupt("b", 1000);
    hosts[0]?.failNext("commit", new Failure("HOST_FILE_CHANGED", "changed"), { cutShort: true });
    await expect(engine.bring(wanted("x", ["ab", 1]))).rejects.toMatchObject({ code: "HOST_FILE_CHANGED" });
    await expect.poll(() => pauses).toEqual([5_000, 30_000, 120_000, 600_000]);
    await expect.poll(() => engines.status.totals.failures).toBe(7);
    await new Promise<void>((resolve) => void setTimeout(resolve, 50));
    expect(engines.status.totals.failures).toBe(7);
    expect(engine.state).toMatchObject({ state: "UNKNOWN", reason: expect.stringContaining("first b") as string });
    // Whoever wants it later gets it, once it works again.
    hosts[0]?.corrupt("b", 0);
    hosts[0]?.die();
    await expect.poll(() => engine.state.state).toBe("LIVE");
  });

  it("restarts a host that died and loads its engines into the state they had, without a build", async () => {
    const engines = make();
    const one = await engines.acquire(other("1"));
    const two = await engines.acquire(other("2"));
    await one.engine.bring(wanted("x", ["a", 1]));
    await two.engine.bring(wanted("y"));
    hosts[0]?.die("SIGSEGV");
    await expect.poll(() => [one.engine.state, two.engine.state].map(({ state }) => state)).toEqual(["UNKNOWN", "UNKNOWN"]);
    expect(events).toContain("host.crashed");
    await expect.poll(() => [one.engine.state, two.engine.state].map(({ state }) => state)).toEqual(["LIVE", "LIVE"]);
    expect(hosts).toHaveLength(2);
    expect([...(hosts[1]?.engines.get(one.engine.id)?.weights.values() ?? [])]).toEqual(["x|a@1|a", "x||b", "x||c"]);
    expect(engines.status).toMatchObject({
      engineBuilds: 2,
      totals: { loads: 2, recoveries: 2 },
      hosts: { fake: { restarts: 1, pid: 101 } },
    });
  });

  it("a bring whose host dies fails with HOST_LOST or finds the new host, and can be repeated at once", async () => {
    const engines = make();
    const { engine } = await engines.acquire(spec());
    await engine.bring(wanted("x"));
    const bringing = engine.bring(wanted("x", ["a", 1]));
    hosts[0]?.die();
    expect(["brought", "HOST_LOST"]).toContain(
      await bringing.then(
        () => "brought",
        (error: Failure) => error.code,
      ),
    );
    await engine.bring(wanted("x", ["a", 1]));
    expect(engine.state).toMatchObject({ state: "LIVE", weights: wanted("x", ["a", 1]).desired });
  });

  it("weights that leave the device stay the engine's: the next bring is a refit, not a load", async () => {
    const engines = make();
    const one = await engines.acquire(spec());
    const two = await engines.acquire(other("2"));
    await one.engine.bring(wanted("x"));
    expect(await engines.offload(null)).toEqual({ freed: [one.engine.id], queued: [], bytes: 12 });
    expect(await engines.offload(two.engine.id)).toEqual({ freed: [], queued: [], bytes: 0 });
    await one.engine.bring(wanted("x", ["a", 1]));
    expect(hosts[0]?.calls.filter((call) => call === "load" || call === "offload")).toEqual(["load", "offload"]);
    expect(engines.status).toMatchObject({ totals: { loads: 1, refits: 1 } });
    expect(engines.status.engines.map(({ engine }) => engine)).toContain(one.engine.id);
  });

  it("has one engine and one host on each device, and loses only those of the host that dies", async () => {
    const started: (string | null)[] = [];
    const engines = new Engines({
      devices: () => ["0", "1"],
      startHost: async (_kind, _graphs, device) => {
        started.push(device);
        const host = fakeHost(100 + hosts.length);
        hosts.push(host);
        return host;
      },
      budgetBytes: () => 10 * size,
      emit: (event) => void (event.type === "host.crashed" && events.push(event.engine)),
    });
    const [zero, one] = [await engines.acquire(spec(), "0"), await engines.acquire(spec(), "1")];
    await zero.engine.bring(wanted("x"));
    await one.engine.bring(wanted("y"));
    expect([zero.engine.id, one.engine.id]).toEqual([`${engineKey(spec())}@0`, `${engineKey(spec())}@1`]);
    expect(started).toEqual(["0", "1"]);
    expect([engines.find(spec(), "1"), engines.find(other("o"), "1")]).toEqual([one.engine, null]);
    expect(Object.fromEntries(engines.status.engines.map(({ device, bytes }) => [device, bytes]))).toEqual({ 0: size, 1: size });
    hosts[1]?.die();
    await expect.poll(() => events).toEqual([`${spec().hostKind}@1`]);
    expect(zero.engine.state.state).toBe("LIVE");
    await expect.poll(() => one.engine.state.state).toBe("LIVE");
    expect(one.engine.wanted).toEqual(wanted("y"));
    expect([engines.isDown(spec().hostKind, "0"), engines.isDown(spec().hostKind, "1")]).toEqual([false, false]);
    await engines.close();
  });

  it("hands out nothing after close", async () => {
    const engines = make();
    await engines.host("fake");
    await engines.close();
    await expect(engines.acquire(spec())).rejects.toMatchObject({ code: "HOST_CLOSED" });
  });
});

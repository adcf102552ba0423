import { describe, expect, it, vi } from "vitest";
import { Failure } from "../../../sidecar/src/failure/index.ts";
import type { Wanted } from "../../../sidecar/src/refit/index.ts";
import { Leases, type Place } from "../../../sidecar/src/step/index.ts";

const wanted = (checkpoint: string): Wanted => ({
  desired: { checkpoint, stack: [] },
  checkpoint: { files: [], parameters: {} },
  adapters: [],
});

function fakeEngine() {
  const log: string[] = [];
  const failures: Failure[] = [];
  let generation = 0;
  let has = "";
  const engine: Place<null>["engine"] = {
    id: "engine",
    refitMs: 0,
    async bring({ desired }) {
      if (has !== desired.checkpoint) {
        generation += 1;
        log.push(`bring ${desired.checkpoint}`);
      }
      has = desired.checkpoint;
      return generation;
    },
    share: () => Promise.reject(new Error("nobody asks")),
    async step(given) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      const failure = failures.shift();
      if (failure !== undefined) throw failure;
      expect(given).toBe(generation);
      log.push(`step ${has}`);
      return { tensors: [{ name: "out", dtype: "u8", shape: [1], data: Uint8Array.of(given) }], placed: [], ms: 1 };
    },
  };
  return { engine, log, failures };
}
const options = { turnMs: () => 1000, graceMs: 5, maxWaiting: 8, idleMs: 600_000, nowMs: () => performance.now() };
const make = () => new Leases<null>(options);
const place = (engine: Place<null>["engine"], checkpoint = "x", release = (): unknown => undefined): Place<null> => ({
  engine,
  wanted: wanted(checkpoint),
  origin: null,
  release: () => void release(),
});

describe("Leases", () => {
  it("brings the lease's own state before its steps, once", async () => {
    const { engine, log } = fakeEngine();
    const lease = await make().open(place(engine, "x", () => log.push("released")));
    expect((await lease.step([])).tensors[0]?.data).toEqual(Uint8Array.of(1));
    await lease.step([]);
    lease.end();
    expect(log).toEqual(["bring x", "step x", "step x", "released"]);
  });

  it("keeps the engine from prepare to the first step, though others wait: one refit, not two", async () => {
    const { engine, log } = fakeEngine();
    const leases = make();
    const picture = async (checkpoint: string) => {
      const lease = await leases.open(place(engine, checkpoint));
      await lease.step([]);
      lease.end();
    };
    await Promise.all(["x", "y", "z"].map(picture));
    expect(log).toEqual(["bring x", "step x", "bring y", "step y", "bring z", "step z"]);
  });

  it("never lets a step of one lease see the weights of another", async () => {
    const { engine, log } = fakeEngine();
    const leases = make();
    const all = ["x", "y", "z"].map(async (checkpoint) => {
      const lease = await leases.open(place(engine, checkpoint));
      for (let step = 0; step < 20; step += 1) await lease.step([]);
      lease.end();
    });
    await Promise.all(all);
    expect(log.filter((line) => line.startsWith("step"))).toHaveLength(60);
    let has = "";
    for (const line of log) {
      const [what, checkpoint] = line.split(" ");
      if (what === "bring") has = checkpoint ?? "";
      else expect(checkpoint).toBe(has);
    }
  });

  it.each(["HOST_LOST", "HOST_GENERATION_STALE", "HOST_ENGINE_DIRTY", "HOST_TIMEOUT", "HOST_GARBAGE", "HOST_ENGINE_UNKNOWN"] as const)(
    "computes a step again after %s, once",
    async (code) => {
      const { engine, failures } = fakeEngine();
      const lease = await make().open(place(engine));
      failures.push(new Failure(code, "lost"));
      await expect(lease.step([])).resolves.toMatchObject({ ms: 1 });
      failures.push(new Failure(code, "lost"), new Failure(code, "lost again"));
      await expect(lease.step([])).rejects.toMatchObject({ code });
    },
  );

  describe("with several devices", () => {
    const pool = () => {
      const [here, there] = [fakeEngine(), fakeEngine()];
      const other = { drained: false, places: [] as (Place<null> | null)[] };
      const leases = new Leases<null>({
        ...options,
        elsewhere: async () => other.places.shift() ?? null,
        mustLeave: ({ engine }) => other.drained && engine === here.engine,
      });
      other.places.push(place(there.engine, "x", () => there.log.push("released")));
      return { here, there, other, leases };
    };

    it("computes a lost step on another one, in the same state, and goes on there", async () => {
      const { here, there, leases } = pool();
      const lease = await leases.open(place(here.engine, "x", () => here.log.push("released")));
      here.failures.push(new Failure("HOST_LOST", "lost"));
      const answers = await Promise.all([lease.step([]), lease.step([])]);
      expect(answers).toHaveLength(2);
      await lease.step([]);
      expect(here.log[0]).toBe("bring x");
      expect(here.log.at(-1)).toBe("released");
      expect([...here.log, ...there.log].filter((line) => line === "step x")).toHaveLength(3);
      expect(there.log.slice(0, 2)).toEqual(["bring x", "step x"]);
      lease.end();
      expect(there.log.at(-1)).toBe("released");
    });

    it("leaves a drained one before the next step", async () => {
      const { here, there, other, leases } = pool();
      const lease = await leases.open(place(here.engine));
      other.drained = true;
      await lease.step([]);
      expect([here.log, there.log]).toEqual([["bring x"], ["bring x", "step x"]]);
    });

    it("tries once more where it is when there is none, or when the other cannot take it, and answers what is wrong", async () => {
      const { here, other, leases } = pool();
      const lease = await leases.open(place(here.engine));
      const refusing = { ...fakeEngine().engine, bring: () => Promise.reject(new Failure("HOST_OUT_OF_MEMORY", "no room")) };
      other.places.splice(0, 1, place(refusing));
      here.failures.push(new Failure("HOST_LOST", "lost"));
      await expect(lease.step([])).resolves.toMatchObject({ ms: 1 });
      here.failures.push(new Failure("HOST_LOST", "lost"), new Failure("HOST_TIMEOUT", "lost again"));
      await expect(lease.step([])).rejects.toMatchObject({ code: "HOST_TIMEOUT" });
    });

    it("gives a step up when its patience is over, however often it was lost before", async () => {
      let now = 0;
      const hosts = Array.from({ length: 10 }, () => {
        const fake = fakeEngine();
        fake.failures.push(new Failure("HOST_LOST", "lost"));
        return fake;
      });
      const [first, ...others] = hosts.map(({ engine }) => place(engine));
      const elsewhere = async () => ((now += 10), others.shift() ?? null);
      const leases = new Leases<null>({ ...options, nowMs: () => now, patienceMs: 45, elsewhere });
      const lease = await leases.open(first as Place<null>);
      await expect(lease.step([])).rejects.toMatchObject({ code: "HOST_LOST" });
      expect(hosts.filter(({ failures }) => failures.length === 0)).toHaveLength(6);
      lease.end();
    });

    it("tells what runs do where, arrivals included", async () => {
      const { here, leases } = pool();
      const opening = leases.open(place(here.engine));
      expect(leases.stays()).toMatchObject([{ engine: "engine", idleMs: 0 }]);
      const lease = await opening;
      expect(leases.stays()).toHaveLength(1);
      lease.end();
      expect(leases.stays()).toEqual([]);
    });
  });

  it("does not repeat a step that failed by itself", async () => {
    const { engine, failures } = fakeEngine();
    const lease = await make().open(place(engine));
    failures.push(new Failure("HOST_INPUT_INVALID", "wrong"));
    await expect(lease.step([])).rejects.toMatchObject({ code: "HOST_INPUT_INVALID" });
    await expect(lease.step([])).resolves.toMatchObject({ ms: 1 });
  });

  it("refuses steps on an ended lease with STEP_RUN_CLOSED, and releases the engine only when the last step has ended", async () => {
    const { engine, log } = fakeEngine();
    const lease = await make().open(place(engine, "x", () => log.push("released")));
    const last = lease.step([]);
    lease.end();
    expect(log).not.toContain("released");
    await last;
    expect(log.at(-1)).toBe("released");
    lease.end();
    expect(log.filter((line) => line === "released")).toHaveLength(1);
    await expect(lease.step([])).rejects.toMatchObject({ code: "STEP_RUN_CLOSED" });
  });

  it("opening brings the weights without a step, and gives the engine back when they cannot be brought", async () => {
    const { engine, log } = fakeEngine();
    const leases = make();
    await leases.open(place(engine));
    expect(log).toEqual(["bring x"]);
    const refusing = { ...engine, bring: () => Promise.reject(new Failure("HOST_OUT_OF_MEMORY", "no room")) };
    const refused = leases.open(place(refusing, "y", () => log.push("released")));
    await expect(refused).rejects.toMatchObject({ code: "HOST_OUT_OF_MEMORY" });
    expect(log).toEqual(["bring x", "released"]);
    expect(leases.list()).toHaveLength(1);
  });

  it("tells what a refit took where it is, with others' turns left out", async () => {
    const leases = make();
    const shared = { ...fakeEngine().engine, refitMs: 40 };
    const [first, second] = await Promise.all([leases.open(place(shared)), leases.open(place(shared, "y"))]);
    expect([first.refitMs, second.refitMs]).toEqual([40, 40]);
    await first.move(place(fakeEngine().engine));
    expect([first.refitMs, second.refitMs]).toEqual([0, 40]);
    leases.close();
  });

  it("moves between two steps, and stays where it was when the new weights cannot be brought", async () => {
    const { engine, log } = fakeEngine();
    const other = fakeEngine();
    const lease = await make().open(place(engine, "x", () => log.push("released")));
    const refusing = { ...other.engine, bring: () => Promise.reject(new Failure("REFIT_FAILED", "no")) };
    await expect(lease.move(place(refusing))).rejects.toMatchObject({ code: "REFIT_FAILED" });
    const last = lease.step([]);
    await Promise.all([last, lease.move(place(other.engine, "y"))]);
    expect(log).toEqual(["bring x", "step x", "released"]);
    await lease.step([]);
    expect(other.log).toEqual(["bring y", "step y"]);
    expect(lease.wanted.desired.checkpoint).toBe("y");
  });

  it("a lease that ended while it moved leaves both places", async () => {
    const { engine, log } = fakeEngine();
    const lease = await make().open(place(engine, "x", () => log.push("x released")));
    const moved = lease.move(place(engine, "y", () => log.push("y released")));
    lease.end();
    await moved;
    expect(log.filter((line) => line.endsWith("released"))).toEqual(["x released", "y released"]);
  });

  it("ends by idleness, counted from the last step, unless it is kept", async () => {
    vi.useFakeTimers();
    const { engine } = fakeEngine();
    let ends = 0;
    const leases = new Leases<null>({ ...options, idleMs: 1000, onEnd: () => (ends += 1) });
    const steps = async (id: string) => {
      const step = leases.get(id).step([]);
      await vi.advanceTimersByTimeAsync(1);
      await step;
    };
    const { id } = await leases.open(place(engine));
    const kept = await leases.open(place(engine), { keep: true });
    await vi.advanceTimersByTimeAsync(900);
    await steps(id);
    await vi.advanceTimersByTimeAsync(900);
    expect(leases.list()).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(200);
    expect(leases.list()).toEqual([kept]);
    expect(ends).toBe(1);
    expect(() => leases.get(id)).toThrow(expect.objectContaining({ code: "STEP_RUN_CLOSED" }) as Error);
    vi.useRealTimers();
  });

  it("counts steps by engine, tells of each, and knows whether one ran lately", async () => {
    const { engine } = fakeEngine();
    const seen: string[] = [];
    let now = 0;
    const leases = new Leases<null>({
      ...options,
      nowMs: () => now,
      onStep: (_lease, reply) => seen.push(`${reply.engine} ${reply.ms} ${reply.waitedMs}`),
    });
    const lease = await leases.open(place(engine));
    expect(leases.activeWithin(1000)).toBe(false);
    const step = lease.step([]);
    expect(leases.activeWithin(0)).toBe(true);
    await step;
    expect(seen).toEqual(["engine 1 0"]);
    expect([leases.steps("engine"), leases.steps("other"), leases.steps(), leases.waiting()]).toEqual([1, 0, 1, 0]);
    now = 500;
    expect([leases.activeWithin(1000), leases.activeWithin(500)]).toEqual([true, false]);
  });
});

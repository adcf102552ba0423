import { describe, expect, it } from "vitest";
import { Failure } from "../../../sidecar/src/failure/index.ts";
import type { Wanted } from "../../../sidecar/src/refit/index.ts";
import { Runs, type StepEngine } from "../../../sidecar/src/step/index.ts";

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
  const engine: StepEngine = {
    id: "engine",
    async bring({ desired }) {
      if (has !== desired.checkpoint) {
        generation += 1;
        log.push(`bring ${desired.checkpoint}`);
      }
      has = desired.checkpoint;
      return generation;
    },
    async step(given) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      const failure = failures.shift();
      if (failure !== undefined) throw failure;
      expect(given).toBe(generation);
      log.push(`step ${has}`);
      return { tensors: [{ name: "out", dtype: "u8", shape: [1], data: Uint8Array.of(given) }], ms: 1 };
    },
  };
  return { engine, log, failures };
}
const make = () => new Runs({ turnMs: () => 1000, graceMs: 5, maxWaiting: 8, nowMs: () => performance.now() });

describe("Runs", () => {
  it("brings the run's own state before its steps, once", async () => {
    const { engine, log } = fakeEngine();
    const run = make().open({ engine, release: () => log.push("released") }, wanted("x"));
    expect((await run.step([])).tensors[0]?.data).toEqual(Uint8Array.of(1));
    await run.step([]);
    run.close();
    expect(log).toEqual(["bring x", "step x", "step x", "released"]);
  });

  it("never lets a step of one run see the weights of another", async () => {
    const { engine, log } = fakeEngine();
    const runs = make();
    const all = ["x", "y", "z"].map(async (checkpoint) => {
      const run = runs.open({ engine, release: () => undefined }, wanted(checkpoint));
      for (let step = 0; step < 20; step += 1) await run.step([]);
      run.close();
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

  it.each(["HOST_LOST", "HOST_GENERATION_STALE", "HOST_ENGINE_DIRTY", "HOST_TIMEOUT", "HOST_GARBAGE", "HOST_ENGINE_UNKNOWN"])(
    "computes a step again after %s, once",
    async (code) => {
      const { engine, failures } = fakeEngine();
      const run = make().open({ engine, release: () => undefined }, wanted("x"));
      failures.push(new Failure(code, "lost"));
      await expect(run.step([])).resolves.toMatchObject({ ms: 1 });
      failures.push(new Failure(code, "lost"), new Failure(code, "lost again"));
      await expect(run.step([])).rejects.toMatchObject({ code });
    },
  );

  it("does not repeat a step that failed by itself", async () => {
    const { engine, failures } = fakeEngine();
    const run = make().open({ engine, release: () => undefined }, wanted("x"));
    failures.push(new Failure("HOST_INPUT_INVALID", "wrong"));
    await expect(run.step([])).rejects.toMatchObject({ code: "HOST_INPUT_INVALID" });
    await expect(run.step([])).resolves.toMatchObject({ ms: 1 });
  });

  it("refuses steps on a closed run with STEP_RUN_CLOSED, and releases the engine only when the last step has ended", async () => {
    const { engine, log } = fakeEngine();
    const run = make().open({ engine, release: () => log.push("released") }, wanted("x"));
    const last = run.step([]);
    run.close();
    expect(log).not.toContain("released");
    await last;
    expect(log.at(-1)).toBe("released");
    run.close();
    expect(log.filter((line) => line === "released")).toHaveLength(1);
    await expect(run.step([])).rejects.toMatchObject({ code: "STEP_RUN_CLOSED" });
  });

  it("warm brings the weights without a step", async () => {
    const { engine, log } = fakeEngine();
    await make()
      .open({ engine, release: () => undefined }, wanted("x"))
      .warm();
    expect(log).toEqual(["bring x"]);
  });

  it("reports every step to its observer", async () => {
    const { engine } = fakeEngine();
    const seen: string[] = [];
    const runs = new Runs({
      turnMs: () => 1,
      graceMs: 1,
      maxWaiting: 8,
      nowMs: () => 0,
      onStep: (id, reply) => seen.push(`${id} ${reply.ms} ${reply.waitedMs}`),
    });
    await runs.open({ engine, release: () => undefined }, wanted("x")).step([]);
    expect(seen).toEqual(["engine 1 0"]);
    expect(runs.waiting).toEqual({ engine: 0 });
  });
});

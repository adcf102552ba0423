import { beforeEach, describe, expect, it } from "vitest";
import { Failure } from "../../../sidecar/src/failure/index.ts";
import { LiveEngine, type RefitRecord } from "../../../sidecar/src/refit/index.ts";
import { fakeHost, type FakeHost } from "./fake-host.ts";
import { spec, wanted } from "./small-stack.ts";

let host: FakeHost;
let states: string[];
let records: RefitRecord[];
const make = (engineSpec = spec()) =>
  new LiveEngine(engineSpec, {
    host: async () => host,
    nowMs: () => 0,
    onState: ({ state }) => states.push(state),
    onStarted: () => undefined,
    onLoaded: () => undefined,
    onRecord: (record) => records.push(record),
  });
beforeEach(() => {
  host = fakeHost();
  states = [];
  records = [];
});
const held = (engine: LiveEngine) => [...(host.engines.get(engine.id)?.weights.values() ?? [])];

describe("LiveEngine", () => {
  it("loads on the first bring, refits on the next, does nothing for the same state", async () => {
    const engine = make();
    expect(engine.state.state).toBe("UNKNOWN");
    expect(await engine.bring(wanted("x"))).toBe(1);
    expect(await engine.bring(wanted("x", ["ab", 1]))).toBe(2);
    expect(await engine.bring(wanted("x", ["ab", 1]))).toBe(2);
    expect(held(engine)).toEqual(["x|ab@1|a", "x|ab@1|b", "x||c"]);
    expect(host.calls).toEqual(["load", "prepare", "commit"]);
    expect(engine.state).toMatchObject({ state: "LIVE", weights: { checkpoint: "x" } });
    expect(states).toEqual(["LIVE", "NEEDS_REFIT", "LIVE"]);
    expect(records.map(({ kind, writes, failure }) => [kind, writes, failure])).toEqual([
      ["load", 3, null],
      ["refit", 2, null],
    ]);
  });

  it("says what a refit took; a wait for its host and a load are none", async () => {
    let now = 0;
    const pass = (ms: number) => void (now += ms);
    const engine = new LiveEngine(spec(), {
      host: async () => (pass(30_000), host),
      nowMs: () => now,
      onState: ({ state }) => (state === "NEEDS_REFIT" ? pass(1_000) : undefined),
      onStarted: ({ full }) => pass(full ? 5_000 : 40),
      onLoaded: () => undefined,
      onRecord: () => undefined,
    });
    await engine.bring(wanted("x"));
    expect(engine.refitMs).toBe(0);
    await engine.bring(wanted("x", ["ab", 1]));
    expect(engine.refitMs).toBe(40);
    await engine.bring(wanted("x", ["ab", 1]));
    expect(engine.refitMs).toBe(0);
  });

  it("changes the checkpoint of the same engine by a full plan", async () => {
    const engine = make();
    await engine.bring(wanted("x", ["a", 1]));
    expect(await engine.bring(wanted("y", ["c", 0.5]))).toBe(2);
    expect(held(engine)).toEqual(["y||a", "y||b", "y|c@0.5|c"]);
    expect(host.calls).toEqual(["load", "prepare", "commit"]);
  });

  it("keeps the old weights serving when prepare fails, and says so", async () => {
    const engine = make();
    const generation = await engine.bring(wanted("x"));
    host.failNext("prepare", new Failure("HOST_NON_FINITE", "a NaN"));
    await expect(engine.bring(wanted("x", ["a", 1]))).rejects.toMatchObject({ code: "HOST_NON_FINITE" });
    expect(engine.state).toMatchObject({ state: "NEEDS_REFIT", weights: { stack: [] }, reason: "a NaN" });
    await expect(engine.step(generation, [])).resolves.toMatchObject({ ms: 1 });
    expect(await engine.bring(wanted("x"))).toBe(generation);
    expect(engine.state.state).toBe("LIVE");
    expect(records.at(-1)).toMatchObject({ kind: "refit", failure: "HOST_NON_FINITE" });
  });

  it("is UNKNOWN after a commit that was cut short, and then only believes a verified full write", async () => {
    const engine = make();
    await engine.bring(wanted("x"));
    host.failNext("commit", new Failure("HOST_FILE_CHANGED", "changed"), { cutShort: true });
    await expect(engine.bring(wanted("x", ["ab", 1]))).rejects.toMatchObject({ code: "HOST_FILE_CHANGED" });
    expect(engine.state).toMatchObject({ state: "UNKNOWN", reason: "changed" });
    host.calls.length = 0;
    expect(await engine.bring(wanted("x", ["c", 1]))).toBe(3);
    expect(host.calls).toEqual(["prepare", "commit", "checksums"]);
    expect(held(engine)).toEqual(["x||a", "x||b", "x|c@1|c"]);
    expect(records.at(-1)).toMatchObject({ kind: "recovery", full: true, writes: 3, failure: null });
  });

  it("recovers by itself into the state it had before the commit that was cut short", async () => {
    const engine = make();
    await engine.bring(wanted("x", ["b", 2]));
    host.failNext("commit", new Failure("HOST_FILE_CHANGED", "changed"), { cutShort: true });
    await expect(engine.bring(wanted("x", ["ab", 1]))).rejects.toThrow();
    await engine.recover();
    expect(engine.state).toMatchObject({ state: "LIVE", weights: wanted("x", ["b", 2]).desired });
    host.calls.length = 0;
    await engine.recover();
    expect(host.calls).toEqual([]);
  });

  it("stays UNKNOWN with REFIT_CHECKSUM_MISMATCH when the weights are not what was computed", async () => {
    const engine = make();
    await engine.bring(wanted("x"));
    host.failNext("commit", new Failure("HOST_FILE_CHANGED", "changed"), { cutShort: true });
    await expect(engine.bring(wanted("x", ["ab", 1]))).rejects.toThrow();
    host.corrupt("b");
    await expect(engine.recover()).rejects.toMatchObject({ code: "REFIT_CHECKSUM_MISMATCH", evidence: { parameters: ["b"] } });
    expect(engine.state.state).toBe("UNKNOWN");
    await engine.recover();
    expect(engine.state.state).toBe("LIVE");
  });

  it("loads into the new host after the old one died, verified, into the state it had", async () => {
    const engine = make();
    await engine.bring(wanted("x", ["a", 1]));
    host.die();
    engine.lost("it died");
    expect(engine.state).toEqual({ state: "UNKNOWN", reason: "it died" });
    await expect(engine.step(1, [])).rejects.toMatchObject({ code: "HOST_LOST" });
    host = fakeHost(2);
    await engine.recover();
    expect(host.calls).toEqual(["load", "checksums"]);
    expect(engine.state).toMatchObject({ state: "LIVE", weights: wanted("x", ["a", 1]).desired });
    expect(records.at(-1)).toMatchObject({ kind: "recovery" });
  });

  it("does not believe a load into a new host whose checksums differ, and repairs it by a full refit", async () => {
    const engine = make();
    await engine.bring(wanted("x"));
    engine.lost("it died");
    host = fakeHost(2);
    host.corrupt("c");
    await expect(engine.recover()).rejects.toMatchObject({ code: "REFIT_CHECKSUM_MISMATCH" });
    expect(engine.state.state).toBe("UNKNOWN");
    await engine.recover();
    expect(host.calls).toEqual(["load", "checksums", "prepare", "commit", "checksums"]);
    expect(engine.state.state).toBe("LIVE");
  });

  it("needs a recompile, and still serves, when a plan touches what the engine cannot change", async () => {
    const engine = make(spec(undefined, undefined, ["b"]));
    // Loading writes everything; only refits are limited.
    expect(await engine.bring(wanted("x"))).toBe(1);
    await expect(engine.bring(wanted("x", ["ab", 1]))).rejects.toMatchObject({
      code: "REFIT_NEEDS_RECOMPILE",
      evidence: { parameters: ["b"] },
    });
    expect(engine.state).toMatchObject({ state: "NEEDS_RECOMPILE", weights: { stack: [] } });
    await expect(engine.step(1, [])).resolves.toBeDefined();
    expect(await engine.bring(wanted("x", ["a", 1]))).toBe(2);
    expect(engine.state.state).toBe("LIVE");
  });

  it("brings one state after the other, never two at a time", async () => {
    const engine = make();
    const generations = await Promise.all([
      engine.bring(wanted("x")),
      engine.bring(wanted("x", ["a", 1])),
      engine.bring(wanted("x", ["b", 1])),
      engine.bring(wanted("x")),
    ]);
    expect(generations).toEqual([1, 2, 3, 4]);
    expect(host.calls).toEqual(["load", "prepare", "commit", "prepare", "commit", "prepare", "commit"]);
    expect(held(engine)).toEqual(["x||a", "x||b", "x||c"]);
  });

  it("gives a prepared refit back that was cancelled too late", async () => {
    const engine = make();
    await engine.bring(wanted("x"));
    const controller = new AbortController();
    const bringing = engine.bring(wanted("x", ["a", 1]), controller.signal);
    await new Promise<void>((resolve) => queueMicrotask(resolve));
    controller.abort();
    await expect(bringing).rejects.toMatchObject({ code: expect.stringMatching(/HOST_CANCELLED|ABORT/) as unknown });
    expect(host.engines.get(engine.id)?.prepared.size).toBe(0);
    expect(host.engines.get(engine.id)?.generation).toBe(1);
  });

  it("unloads, and loads again when it is wanted again", async () => {
    const engine = make();
    await engine.bring(wanted("x"));
    await engine.unload();
    expect(host.engines.size).toBe(0);
    expect(engine.loaded).toBe(false);
    await engine.bring(wanted("x"));
    expect(engine.state.state).toBe("LIVE");
  });
});

// Clients with many stacks on two devices, in virtual time: turns, leases and placement as they are, engines that only take time.
// Costs are those of docs/evidence/several-cards.md.

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { createLeaseOpener, createLeases } from "../../../../sidecar/src/pipeline/open-lease.ts";
import type { EngineLeases, LeaseOpener, LeaseRequest, Origin } from "../../../../sidecar/src/pipeline/open-lease.ts";
import { createPlacing } from "../../../../sidecar/src/pipeline/placing/index.ts";
import type { PlacedEngines } from "../../../../sidecar/src/pipeline/placing/index.ts";
import { stateKey } from "../../../../sidecar/src/plan/index.ts";
import type { DeviceName, EngineSpec, Wanted } from "../../../../sidecar/src/refit/index.ts";

const stepMs = 43;
const refitMs = 18;
/** The client's way to the sidecar and back, and what it does between two steps. */
const wayMs = 3;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());
const pause = (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms));

const spec: EngineSpec = {
  structure: "sdxl",
  precision: "f16",
  profile: "any",
  hostKind: "torch",
  graph: null,
  parameters: { names: [], shapes: {}, fixed: new Set() },
};
const source: Wanted["checkpoint"] = { files: [], parameters: {} };
const entry: Origin["resolved"]["checkpoint"]["entry"] = {
  kind: "checkpoint",
  id: "checkpoint:0",
  folder: "checkpoints",
  name: "sdxl.safetensors",
  path: "sdxl.safetensors",
  sizeBytes: 0,
  identity: null,
  family: "sdxl",
  evidence: [],
  problem: null,
  variant: null,
  structure: spec.structure,
  keyPrefix: "",
  config: null,
  parameters: 0,
  dtypes: {},
  format: "checkpoint",
  files: 1,
};
/** A stack is named by the checkpoint that it would be on: what a state is made of counts for nothing here. */
const requestOf = (stack: string): LeaseRequest => ({
  checkpoint: stack,
  stack: [],
  mode: "comfyui",
  precision: "auto",
  host: "auto",
  residuals: false,
});
const resolvedOf = (stack: string): Origin["resolved"] => ({
  wanted: { desired: { checkpoint: stack, stack: [] }, checkpoint: source, adapters: [] },
  checkpoint: { entry, source, target: { family: "sdxl", structure: spec.structure, parameters: new Map() }, state: stack },
  adapters: [],
  deltaMs: 0,
});

/** The same numbers in every run: a linear congruential generator. */
function draws(seed: number): (below: number) => number {
  let value = seed;
  return (below) => {
    value = (Math.imul(value, 1664525) + 1013904223) >>> 0;
    return Math.floor((value / 2 ** 32) * below);
  };
}

function devicesOf(count: number) {
  const refits: number[] = [];
  const engines = Array.from({ length: count }, (_, index) => {
    const device = String(index);
    const engine = {
      id: `engine@${device}`,
      device,
      spec,
      wanted: null as Wanted | null,
      usedMs: 0,
      refitMs: 0,
      async bring(wanted: Wanted) {
        engine.usedMs = performance.now();
        engine.refitMs = 0;
        if (engine.wanted !== null && stateKey(engine.wanted.desired) === stateKey(wanted.desired)) return 1;
        refits.push(performance.now());
        await pause(refitMs);
        engine.refitMs = refitMs;
        engine.wanted = wanted;
        return 1;
      },
      async step() {
        await pause(stepMs);
        return { tensors: [], placed: [], ms: stepMs };
      },
      share: () => Promise.reject(new Error("nobody asks")),
    };
    return engine;
  });
  return { engines, refits };
}

interface Pool {
  readonly opener: LeaseOpener;
  readonly refits: readonly number[];
}

function poolOf(count: number, turnMs: number, by: "affinity" | "load"): Pool {
  const { engines, refits } = devicesOf(count);
  const on = (device: DeviceName) => engines.find((engine) => engine.device === device) ?? null;
  const known: PlacedEngines = {
    devices: () => engines.map(({ device }) => device),
    find: (_, device) => on(device),
    get: (id) => engines.find((engine) => engine.id === id) ?? null,
    isDown: () => false,
    on: () => 1,
    runningHosts: () => new Map(),
    acquire: async (_, device) => {
      const engine = on(device);
      if (engine === null) throw new Error(`expected one of the pool's devices, got ${device}`);
      return { engine, release: () => undefined };
    },
  };
  const leases: EngineLeases = createLeases({
    turnMs: () => turnMs,
    onStep: (lease, reply, tensors) => placing.stepped(lease, reply, tensors),
    elsewhere: (place) => placing.elsewhere(place),
    mustLeave: (place) => placing.mustLeave(place),
  });
  const placing = createPlacing({
    engines: known,
    leases: () => leases,
    freeBytes: () => null,
    by: () => by,
    onNotSpread: () => undefined,
  });
  const opener = createLeaseOpener({
    patienceMs: 0,
    leases,
    engines: known,
    ...placing,
    resolve: async ({ checkpoint }) => resolvedOf(checkpoint),
    specOf: async () => ({ spec, table: { inputs: [], outputs: [], residuals: [] } }),
    onFailed: () => undefined,
  });
  return { opener, refits };
}

interface Load {
  readonly devices: number;
  readonly turnMs: number;
  readonly by: "affinity" | "load";
  readonly seed?: number;
  readonly minutes?: number;
}

/** Eight clients, 20 stacks, pictures of 20 steps. */
async function simulate({ devices, turnMs, by, seed = 1, minutes = 3 }: Load) {
  const { opener, refits } = poolOf(devices, turnMs, by);
  const began = performance.now();
  const end = began + minutes * 60_000;
  const firsts: number[] = [];
  const waits: number[] = [];
  let steps = 0;
  const client = async (index: number) => {
    const draw = draws(seed * 1000 + index);
    for (draw(1); performance.now() < end;) {
      const stack = `stack ${draw(20)}`;
      for (let picture = 0; picture < 6 && performance.now() < end; picture += 1) {
        const asked = performance.now();
        const lease = await opener.open(requestOf(stack));
        await pause(wayMs);
        for (let step = 0; step < 20; step += 1) {
          const from = performance.now();
          await lease.step([]);
          steps += 1;
          waits.push(performance.now() - from - stepMs);
          if (step === 0) firsts.push(performance.now() - asked);
          await pause(wayMs);
        }
        lease.end();
        await pause(wayMs);
      }
    }
  };
  const all = Promise.all(Array.from({ length: 8 }, (_, index) => client(index)));
  await vi.advanceTimersByTimeAsync(minutes * 60_000 + 300_000);
  await all;
  return {
    refitsPerRun: refits.length / firsts.length,
    stepsPerSecond: (steps * 1000) / (minutes * 60_000),
    longestStepWaitMs: Math.max(...waits),
    longestFirstMs: Math.max(...firsts),
  };
}

describe("eight clients with 20 stacks on two devices, series of six pictures", () => {
  const turnMs = 6000;

  it.each([1, 2, 3])("need few refits and wait for a few turns at most (draws %d)", async (seed) => {
    const { refitsPerRun, longestFirstMs, longestStepWaitMs, stepsPerSecond } = await simulate({
      devices: 2,
      turnMs,
      by: "affinity",
      seed,
    });
    // One refit a series is 1/6; a stack that several clients share saves some, the end of a turn within a series costs one.
    expect(refitsPerRun).toBeLessThan(0.2);
    // A device has at most two runs more than the other one, so five stacks at most come first, each for a turn and what ends and begins it.
    const turn = turnMs + stepMs + refitMs + 30;
    expect(longestFirstMs).toBeLessThan(5 * turn + stepMs + 4 * wayMs);
    expect(longestStepWaitMs).toBeLessThan(5 * turn);
    expect(stepsPerSecond).toBeGreaterThan(0.95 * 2 * (1000 / (stepMs + wayMs)));
  });

  it("need no more refits where only load counts: a client goes back to the device that it has just left", async () => {
    const by = async (rule: Load["by"]) => (await simulate({ devices: 2, turnMs, by: rule })).refitsPerRun;
    const load = await by("load");
    expect(load).toBeLessThan(0.25);
    expect(await by("affinity")).toBeLessThanOrEqual(load);
  });
});

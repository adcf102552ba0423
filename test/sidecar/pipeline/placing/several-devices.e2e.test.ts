// A whole sidecar with two devices. On a computer without cards these are two hosts on the processor: placement, replicas and failures are the same.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readDemoAssets } from "../../../../sidecar/src/demo/index.ts";
import { demoCheckpoint, demoLora, idOf, prepare, startBench, statusOf, step, until } from "../harness.ts";
import type { Bench, Stack } from "../harness.ts";

const python = process.env["REFIT_TEST_PYTHON"];
const torchRuns = python !== undefined && python !== "";
if (!torchRuns) console.warn("the torch host is not run on two devices: REFIT_TEST_PYTHON names no Python with PyTorch");

const kinds = [
  { host: "onnxruntime" as const, flags: [] as readonly string[] },
  ...(torchRuns ? [{ host: "torch" as const, flags: ["--python", python] }] : []),
];

describe.each(kinds)("two devices with the host $host", ({ host, flags }) => {
  let bench: Bench;
  let checkpoint: string;
  let thick: Stack[];
  let small: Stack[];
  /** What each stack computes, from before anything was moved. */
  const right = new Map<readonly Stack[], Buffer>();

  const open = (stack: readonly Stack[]) => prepare(bench, checkpoint, stack, { host });
  const close = (lease: string) => bench.client.call("engine.release", { lease });
  const devices = async () => (await statusOf(bench)).devices;
  const refits = async () => (await statusOf(bench)).totals.refits;
  const deviceOf = ({ engine }: { readonly engine: string }) => engine.split("@")[1];

  beforeAll(async () => {
    bench = await startBench({
      flags: ["--devices", "cpu:0,cpu:1", "--host", host, "--spare-host", "off", "--warm", "off", ...flags],
      fill: (place) => {
        place("checkpoints", "base.safetensors", demoCheckpoint);
        for (const name of ["thick-strokes", "small"]) place("loras", `${name}.safetensors`, demoLora(name));
      },
    });
    checkpoint = await idOf(bench, "checkpoint", "base.safetensors");
    thick = [{ adapter: await idOf(bench, "adapter", "thick-strokes.safetensors"), strength: 0.8 }];
    small = [{ adapter: await idOf(bench, "adapter", "small.safetensors"), strength: 0.8 }];
  }, 60_000);
  afterAll(() => bench.close());

  it("gives the second device the structure when runs with different stacks would wait, and the run goes on there", async () => {
    expect((await devices()).map(({ name, state }) => [name, state])).toEqual([
      ["cpu:0", "idle"],
      ["cpu:1", "idle"],
    ]);
    const first = await open(thick);
    right.set(thick, await step(bench, first.lease));
    const second = await open(small);
    right.set(small, await step(bench, second.lease));
    await until("a copy of the engine on the second device", async () => (await devices())[1]?.engines === 1);
    await until("the run there", async () => {
      await step(bench, first.lease);
      await step(bench, second.lease);
      return (await devices()).every(({ runs }) => runs === 1);
    });
    expect(await step(bench, second.lease)).toEqual(right.get(small));
    expect(await step(bench, first.lease)).toEqual(right.get(thick));
    expect(right.get(thick)).not.toEqual(right.get(small));
    await close(first.lease);
    await close(second.lease);
  });

  it("has no device more for a host that is asked for and not installed", async () => {
    const missing = host === "torch" ? [] : (["torch", "tensorrt"] as const);
    for (const kind of missing)
      await expect(prepare(bench, checkpoint, thick, { host: kind })).rejects.toMatchObject({ code: "ENGINE_FAILED" });
    expect((await devices()).map(({ name, restarts }) => [name, restarts])).toEqual([
      ["cpu:0", 0],
      ["cpu:1", 0],
    ]);
  });

  it("brings a stack back to the device that has its weights: two stacks on two devices do not refit at all", async () => {
    const before = await refits();
    const placed = new Map<readonly Stack[], Set<string | undefined>>([
      [thick, new Set()],
      [small, new Set()],
    ]);
    for (let turn = 0; turn < 4; turn += 1)
      for (const stack of turn % 2 === 0 ? [thick, small] : [small, thick]) {
        const run = await open(stack);
        placed.get(stack)?.add(deviceOf(run));
        expect(await step(bench, run.lease)).toEqual(right.get(stack));
        await close(run.lease);
      }
    expect([...placed.values()].map(({ size }) => size)).toEqual([1, 1]);
    expect(new Set([...placed.values()].flatMap((set) => [...set])).size).toBe(2);
    expect(await refits()).toBe(before);
  });

  it("runs whole loops of many clients on both devices, each with its own weights", async () => {
    const { conditioning } = await readDemoAssets();
    const words = new Uint8Array(conditioning.buffer, conditioning.byteOffset, conditioning.byteLength);
    const tensors = [{ name: "positive.encoder_hidden_states", dtype: "f32" as const, shape: [1, 4, 768], data: words }];
    const sample = async (index: number) => {
      const stack = (index % 2 === 0 ? thick : small).map((item) => ({ ...item, strength: 0.2 + 0.1 * (index % 6) }));
      const params = { checkpoint, stack, host, sampler: "euler" as const, schedule: { steps: 8 }, seeds: [1], size: [8, 8] };
      const answer = await bench.client.call("engine.sample", { ...params, client: String(index % 4) }, { tensors });
      return Buffer.from(answer.tensors[0]?.data ?? []).toString("hex");
    };
    const alone: string[] = [];
    for (let index = 0; index < 6; index += 1) alone.push(await sample(index));
    const steps = async () => (await statusOf(bench)).engines.map((engine) => engine.steps);
    const before = await steps();
    expect(await Promise.all(Array.from({ length: 24 }, (_, index) => sample(index)))).toEqual(
      Array.from({ length: 24 }, (_, index) => alone[index % 6]),
    );
    for (const [index, count] of (await steps()).entries()) expect(count).toBeGreaterThan(before[index] ?? 0);
    expect(new Set(alone).size).toBe(6);
  }, 120_000);

  it("computes a step elsewhere when its host is killed: each step is answered once, with the right weights", async () => {
    const runs = await Promise.all([thick, small, thick, small].map(async (stack) => ({ stack, ...(await open(stack)) })));
    let answers = 0;
    let killed = 0;
    const stepping = runs.map(async ({ stack, lease }) => {
      for (let count = 0; count < 12; count += 1) {
        expect(await step(bench, lease)).toEqual(right.get(stack));
        answers += 1;
      }
    });
    const killing = (async () => {
      await until("some steps", () => answers >= 6);
      const victim = (await devices()).find(({ pids }) => pids.length > 0);
      for (const pid of victim?.pids ?? []) {
        process.kill(pid, "SIGKILL");
        killed += 1;
      }
      return victim?.name;
    })();
    await Promise.all([...stepping, killing]);
    expect({ answers, killed }).toEqual({ answers: 48, killed: 1 });
    const name = await killing;
    // It comes back, with the weights that it had, and takes runs again.
    await until("the device to serve again", async () => (await devices()).find((device) => device.name === name)?.state === "up");
    expect((await devices()).find((device) => device.name === name)?.restarts).toBe(1);
    for (const { lease } of runs) await close(lease);
  }, 60_000);

  it("restarts one device after another while clients step: no step fails, and every host is another process", async () => {
    const pids = async () => (await devices()).map((device) => device.pids[0]);
    const before = await pids();
    const restarts = async () => (await devices()).map((device) => device.restarts);
    const crashes = await restarts();
    const runs = await Promise.all([thick, small].map(async (stack) => ({ stack, ...(await open(stack)) })));
    let isOver = false;
    const stepping = runs.map(async ({ stack, lease }) => {
      while (!isOver) expect(await step(bench, lease)).toEqual(right.get(stack));
    });
    const { result } = await bench.client.call("device.restart", { device: null });
    isOver = true;
    await Promise.all(stepping);
    expect(result.restarted).toEqual(["cpu:0", "cpu:1"]);
    for (const [index, pid] of (await pids()).entries()) expect(pid).not.toBe(before[index]);
    // Asked for, so no crash.
    expect(await restarts()).toEqual(crashes);
    await expect(bench.client.call("device.restart", { device: "cpu:7" })).rejects.toMatchObject({ code: "ENGINE_DEVICE_UNKNOWN" });
    for (const { lease } of runs) await close(lease);
  }, 60_000);

  it("drains a device whose host dies again and again: every run is answered on the other one, and it serves again when it stays up", async () => {
    const [dead, alive] = (await devices()).map(({ name }) => name);
    const held = await open(thick);
    let isOver = false;
    const killing = (async () => {
      while (!isOver) for (const pid of (await devices())[0]?.pids ?? []) kill(pid);
    })();
    const isDown = async () => (await devices())[0]?.state === "down";
    const died = (await devices())[0]?.restarts ?? 0;
    await until("it to die for the third time", async () => ((await devices())[0]?.restarts ?? 0) >= died + 3, 90_000);
    for (const stack of [thick, small, thick, small]) {
      await until("it to be down", isDown);
      const run = await open(stack);
      expect(deviceOf(run)).toBe(alive);
      expect(await step(bench, run.lease)).toEqual(right.get(stack));
      await close(run.lease);
      expect(await step(bench, held.lease)).toEqual(right.get(thick));
    }
    isOver = true;
    await killing;
    await until("it to serve again", async () => (await devices()).find(({ name }) => name === dead)?.state !== "down");
    await close(held.lease);
  }, 150_000);
});

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has died already.
  }
}

import { afterAll, beforeAll, expect, it } from "vitest";
import { demoCheckpoint, demoLora, idOf, output, prepare, runOf, startBench, step } from "./harness.ts";
import type { Bench, Stack } from "./harness.ts";

let bench: Bench;
let checkpoint: string;
let stack: readonly Stack[];

beforeAll(async () => {
  bench = await startBench({
    // The live folder would hold the engine.
    flags: ["--live-checkpoint", "none.safetensors"],
    fill: (place) => (place("checkpoints", "m.safetensors", demoCheckpoint), place("loras", "x.safetensors", demoLora("small"))),
  });
  checkpoint = await idOf(bench, "checkpoint", "m.safetensors");
  stack = [{ adapter: await idOf(bench, "adapter", "x.safetensors"), strength: 1 }];
});
afterAll(() => bench.close());

const ahead = async (after: string): Promise<boolean> => {
  const { result } = await bench.client.call("engine.ahead", { ...runOf(checkpoint, stack), after });
  return result.brought;
};

/** A run without adapters; its lease has ended. */
async function ran(): Promise<string> {
  const { lease } = await prepare(bench, checkpoint, []);
  await bench.client.call("engine.release", { lease });
  return lease;
}

it("weights are there before they are asked for, and are those that a run without it gets", async () => {
  const right = await output(bench, checkpoint, stack);
  expect(await ahead(await ran())).toBe(true);
  const run = await prepare(bench, checkpoint, stack);
  expect(run.refit).toBeNull();
  expect((await step(bench, run.lease)).equals(right)).toBe(true);
  await bench.client.call("engine.release", { lease: run.lease });
});

it("a wrong guess changes no picture", async () => {
  const right = await output(bench, checkpoint, []);
  expect(await ahead(await ran())).toBe(true);
  expect((await output(bench, checkpoint, [])).equals(right)).toBe(true);
});

it("an engine that another run holds, or has used since, is left alone", async () => {
  const mine = await ran();
  const other = await prepare(bench, checkpoint, []);
  expect(await ahead(mine)).toBe(false);
  expect(await ahead(other.lease)).toBe(false);
  await bench.client.call("engine.release", { lease: other.lease });
  expect(await ahead(mine)).toBe(false);
  expect((await prepare(bench, checkpoint, [])).refit).toBeNull();
});

it("a lease that nobody ever had brings nothing", async () => {
  expect(await ahead("lease-of-nobody")).toBe(false);
});

// kill -9, at random points, of the sidecar and of its engine host. REFIT_KILLS sets how many of each (100).

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { output, prepare, startBench, statusOf, step, until, type Bench } from "../sidecar/pipeline/harness.ts";
import { record } from "../record.ts";
import { fill, freshOutputs, spread, stacks, worldOf } from "./support.ts";

const kills = Number(process.env["REFIT_KILLS"] ?? 100);
const pause = (ms: number) => new Promise<void>((resolve) => void setTimeout(resolve, ms));
const dead = (bench: Bench) =>
  new Promise<void>((resolve) =>
    bench.child.signalCode === null && bench.child.exitCode === null ? bench.child.once("exit", () => resolve()) : resolve(),
  );

/** Random stacks, prepared and stepped as fast as they are answered, until the sidecar is gone. */
async function churn(bench: Bench): Promise<void> {
  const world = await worldOf(bench);
  for (;;) await output(bench, world.checkpoint, world.stacks[Math.floor(Math.random() * stacks.length)] ?? []);
}

it(
  `the sidecar, killed ${kills} times at any point of its life, comes back with everything and computes what a fresh one computes`,
  { timeout: 3_600_000 },
  async () => {
    const expected = await freshOutputs();
    let bench = await startBench({ fill });
    const { folder } = bench;
    const recoveries: number[] = [];
    let beforeListening = 0;
    for (let kill = 0; kill < kills; kill += 1) {
      // Half of the kills meet a start (locks, catalog, folders), half a sidecar at work (deltas, refits, steps).
      if (kill % 2 === 0) {
        const working = churn(bench).catch(() => undefined);
        await pause(Math.random() * 1200);
        bench.child.kill("SIGKILL");
        await dead(bench);
        await working;
      } else {
        bench.child.kill("SIGKILL");
        await dead(bench);
        const started = startBench({ folder, onSpawn: (child) => void setTimeout(() => child.kill("SIGKILL"), Math.random() * 900) });
        await started.then(dead, () => (beforeListening += 1));
      }
      const before = performance.now();
      bench = await startBench({ folder });
      const world = await worldOf(bench);
      const index = kill % stacks.length;
      expect(
        Buffer.compare(await output(bench, world.checkpoint, world.stacks[index] ?? []), expected[index] ?? Buffer.alloc(0)),
        `kill ${kill}`,
      ).toBe(0);
      recoveries.push(performance.now() - before);
    }
    const world = await worldOf(bench);
    for (const [index, stack] of world.stacks.entries())
      expect(Buffer.compare(await output(bench, world.checkpoint, stack), expected[index] ?? Buffer.alloc(0))).toBe(0);
    await bench.close();
    const left = readdirSync(join(folder, "data")).filter((name) => /\.tmp$|sidecar\.(json|lock)/.test(name));
    expect(left.filter((name) => name.startsWith("sidecar."))).toEqual([]);
    record("sidecar-killed", {
      promise: "The sidecar may be killed at any point: nothing is lost, and the next one computes the same bits",
      figure: `${kills} kills (${beforeListening} of them before it listened): 0 lost files, 0 wrong outputs; from start to the right output ${spread(recoveries)}`,
      test: "test/faults/kill.e2e.test.ts",
    });
  },
);

it(
  `the engine host, killed ${kills} times during refits and steps, is LIVE again, and no answer is a wrong one`,
  { timeout: 3_600_000 },
  async () => {
    const expected = await freshOutputs();
    const bench = await startBench({ fill });
    try {
      const world = await worldOf(bench);
      await output(bench, world.checkpoint, []);
      const recoveries: number[] = [];
      let served = 0;
      for (let kill = 0; kill < kills; kill += 1) {
        const index = kill % stacks.length;
        const pid = await until("a host", async () => (await statusOf(bench)).hosts.find(({ kind }) => kind === "onnxruntime")?.pid);
        const pending = prepare(bench, world.checkpoint, world.stacks[index] ?? [])
          .then(async ({ lease }) => step(bench, lease).finally(() => bench.client.call("engine.release", { lease })))
          .catch(() => null);
        await pause(Math.random() * 120);
        const killed = performance.now();
        process.kill(pid, "SIGKILL");
        const answer = await pending;
        // An answer may fail (the plugin falls back), it may never be another one.
        if (answer !== null) {
          served += 1;
          expect(Buffer.compare(answer, expected[index] ?? Buffer.alloc(0)), `kill ${kill}`).toBe(0);
        }
        await until("the engine LIVE on another process", async () => {
          const status = await statusOf(bench);
          return status.hosts.find(({ kind }) => kind === "onnxruntime")?.pid !== pid && status.engines[0]?.state === "LIVE";
        });
        recoveries.push(performance.now() - killed);
        expect(
          Buffer.compare(await output(bench, world.checkpoint, world.stacks[index] ?? []), expected[index] ?? Buffer.alloc(0)),
          `after kill ${kill}`,
        ).toBe(0);
      }
      record("host-killed", {
        promise: "An engine host may be killed at any point of a refit or step: it is started again into the desired state",
        figure: `${kills} kills: 0 wrong outputs, ${served} of the calls under way were still answered right; killed to LIVE ${spread(recoveries)} (target 2000 ms)`,
        test: "test/faults/kill.e2e.test.ts",
      });
    } finally {
      await bench.close();
    }
  },
);

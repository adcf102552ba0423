// Many clients on one engine, and churn for a long time. REFIT_CHURN_MINUTES sets how long (20).

import { copyFileSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { connect, readDiscovery } from "../../sidecar/src/client/index.ts";
import { demoLora, output, prepare, startBench, step, type Bench, type Stack } from "../sidecar/pipeline/harness.ts";
import { record } from "../record.ts";
import { fill, freshOutputs, loraNames, median, sorted, stacks, worldOf } from "./support.ts";

const clientCount = 200;
const stepsEach = 10;
const churnMinutes = Number(process.env["REFIT_CHURN_MINUTES"] ?? 20);

it(`${clientCount} clients step on the demo engine, two stacks mixed: every reply is the right one`, { timeout: 900_000 }, async () => {
  const bench = await startBench({ fill, flags: ["--max-clients", String(clientCount + 8)] });
  try {
    const world = await worldOf(bench);
    const used = [world.stacks[1] ?? [], world.stacks[2] ?? []];
    const seeds = [1, 2, 3, 4, 5];
    const expected: Buffer[][] = [];
    for (const stack of used) {
      const { lease } = await prepare(bench, world.checkpoint, stack);
      const row: Buffer[] = [];
      for (const seed of seeds) row.push(await step(bench, lease, seed));
      expected.push(row);
      await bench.client.call("engine.release", { lease });
    }
    const discovery = await readDiscovery(bench.dataDir);
    const clients = await Promise.all(Array.from({ length: clientCount }, () => connect(discovery, "one of many")));
    const times: number[] = [];
    let wrong = 0;
    const before = performance.now();
    await Promise.all(
      clients.map(async (client, index) => {
        const own = { ...bench, client };
        const which = index % used.length;
        const { lease } = await prepare(own, world.checkpoint, used[which] ?? []);
        for (let turn = 0; turn < stepsEach; turn += 1) {
          const seed = (index + turn) % seeds.length;
          const began = performance.now();
          const got = await step(own, lease, seeds[seed]);
          times.push(performance.now() - began);
          if (Buffer.compare(got, expected[which]?.[seed] ?? Buffer.alloc(0)) !== 0) wrong += 1;
        }
        await client.call("engine.release", { lease });
      }),
    );
    const seconds = (performance.now() - before) / 1000;
    await Promise.all(clients.map((client) => client.close()));
    expect([times.length, wrong]).toEqual([clientCount * stepsEach, 0]);
    const quantile = (part: number) => Math.round(sorted(times)[Math.floor(times.length * part)] ?? Number.NaN);
    record("clients-on-engine", {
      promise: `${clientCount} clients at once on one engine: no reply lost, none crossed`,
      figure: `${times.length} steps of two stacks: 0 lost, 0 wrong; ${(times.length / seconds).toFixed(0)} steps/s, waiting included p50 ${quantile(0.5)} ms, p99 ${quantile(0.99)} ms`,
      test: "test/faults/load.e2e.test.ts",
    });
  } finally {
    await bench.close();
  }
});

/** MiB that a process and its children hold. */
function residentMiB(pid: number): number {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number);
  const own = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? Number.NaN) / 1024;
  return own + children.reduce((sum, child) => sum + residentMiB(child), 0);
}

/** One round of what a user does in a day: a file comes, is replaced or goes; another stack is prepared, stepped on and compared. */
async function day(
  bench: Bench,
  checkpoint: string,
  known: readonly (readonly Stack[])[],
  expected: readonly Buffer[],
  count: number,
): Promise<void> {
  const name = `guest-${count % 7}.safetensors`;
  if (count % 3 === 0) {
    copyFileSync(demoLora(loraNames[count % loraNames.length] ?? loraNames[0]), join(bench.folder, "incoming"));
    renameSync(join(bench.folder, "incoming"), bench.path("loras", name));
  } else if (count % 11 === 0) rmSync(bench.path("loras", name), { force: true });
  const index = count % stacks.length;
  const strength = Math.random() * 2 - 1;
  const other = await prepare(
    bench,
    checkpoint,
    (known[index] ?? []).map((item) => ({ ...item, strength })),
  );
  await step(bench, other.lease);
  await bench.client.call("engine.release", { lease: other.lease });
  expect(Buffer.compare(await output(bench, checkpoint, known[index] ?? []), expected[index] ?? Buffer.alloc(0)), `round ${count}`).toBe(0);
}

it(
  `${churnMinutes} minutes of churn: outputs stay those of a fresh engine, memory stays flat`,
  { timeout: (churnMinutes + 5) * 60_000 },
  async ({ skip }) => {
    if (process.platform !== "linux") skip("memory is read from /proc, which only Linux has");
    const expected = await freshOutputs();
    const bench = await startBench({ fill });
    try {
      const world = await worldOf(bench);
      const samples: number[] = [];
      const end = performance.now() + churnMinutes * 60_000;
      let rounds = 0;
      for (let nextSample = 0; performance.now() < end; rounds += 1) {
        await day(bench, world.checkpoint, world.stacks, expected, rounds);
        // The bench keeps what it hears for other tests; here it would be the test's own leak.
        (bench.heard as unknown[]).length = 0;
        (bench.logged as unknown[]).length = 0;
        if (performance.now() < nextSample) continue;
        nextSample = performance.now() + 2000;
        samples.push(residentMiB(bench.child.pid ?? 0));
      }
      const quarter = Math.floor(samples.length / 4);
      const [early, late] = [median(samples.slice(quarter, 2 * quarter)), median(samples.slice(-quarter))];
      expect(late, `resident memory, MiB: ${samples.map(Math.round).join(" ")}`).toBeLessThan(early * 1.1 + 16);
      record("churn", {
        promise: "Long churn (files that come, change and go, ever new stacks): right outputs, flat memory",
        figure: `${churnMinutes} minutes, ${rounds} rounds: 0 wrong outputs; resident memory, second against last quarter: ${Math.round(early)} and ${Math.round(late)} MiB, ${readdirSync(bench.path("loras", "")).length} files`,
        test: "test/faults/load.e2e.test.ts",
      });
    } finally {
      await bench.close();
    }
  },
);

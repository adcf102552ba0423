// What background work and sharing cost, measured by the benches of the same names. Times depend on the computer and are recorded beside their targets; what must not depend on it is checked here.

import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, it, onTestFinished } from "vitest";
import { record } from "../record.ts";

interface Result {
  readonly name: string;
  readonly value: number;
  readonly [more: string]: unknown;
}

async function bench(name: string, ...args: readonly string[]): Promise<readonly Result[]> {
  const child = spawn(process.execPath, [fileURLToPath(new URL(`../../bench/${name}.mjs`, import.meta.url)), ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill());
  let out = "";
  child.stdout.on("data", (chunk: Buffer) => void (out += chunk.toString()));
  const code = await new Promise((resolve) => child.once("exit", resolve));
  expect(code).toBe(0);
  return (JSON.parse(out.trim().split("\n").at(-1) ?? "") as { results: readonly Result[] }).results;
}

function pick(results: readonly Result[], start: string): Result {
  const found = results.find(({ name }) => name.startsWith(start));
  if (found === undefined) throw new Error(`the bench gave no result ${start}`);
  return found;
}

const test = "test/faults/scheduling.e2e.test.ts";

it(
  "a stack that was never used costs no more than a steady step once the warm-up is done, after a restart without a build; steps do not feel background work",
  { timeout: 1_200_000 },
  async () => {
    const results = await bench("warm-up", "--rounds", "5", "--steps", "60");
    const first = pick(results, "first step of a never-used stack");
    const restarted = pick(results, "the same after a restart");
    const beside = pick(results, "p95 of steps while adapters are packed");
    expect(restarted["builds"]).toBe(0);
    expect(beside["deltas"]).toBeGreaterThan(0);
    record("warm-up", {
      promise:
        "After the warm-up the first step of a never-used stack costs at most 1.2 of a steady step; after a restart too, with zero builds",
      figure: `${first.value} of a steady step (without warm-up ${(first["peer"] as { value: number }).value}); after a restart ${restarted.value}, 0 builds (target 1.2); any step of that engine after a second's rest ${String(first["rested"])}`,
      test,
    });
    record("background-yields", {
      promise: "Background work yields to steps: their 95th percentile is at most 1.1 of the one without it",
      figure: `${beside.value} (${String(beside["alone_ms"])} ms alone, ${String(beside["beside_ms"])} ms beside ${String(beside["deltas"])} adapters that arrived and were packed; target 1.1)`,
      test,
    });
  },
);

it(
  "runs with different stacks share an engine: nobody starves, throughput stays; A and B cost two refits and one engine",
  { timeout: 1_800_000 },
  async () => {
    const results = await bench("fair-sharing", "--rounds", "2", "--steps", "24");
    const two = pick(results, "throughput of 2 runs");
    const eight = pick(results, "throughput of 8 runs");
    const waits = ["longest wait of one step among 2 runs", "longest wait of one step among 8 runs"].map(
      (name) => pick(results, name).value,
    );
    for (const what of ["stacks", "checkpoints"]) expect(pick(results, `A then B of two ${what}`)).toMatchObject({ value: 2, engines: 1 });
    record("fair-sharing", {
      promise:
        "2 and 8 runs with different stacks at once keep 0.8 of the throughput of one after another, and each keeps its turn for a bounded time; A and B of two stacks or two checkpoints cost two refits, not two engines",
      figure: `${two.value} with 2 runs, ${eight.value} with 8 (target 0.8); longest wait of a step ${waits[0]} ms and ${waits[1]} ms (turns of 2 s); A then B: 2 refits, 1 engine, for stacks and for checkpoints`,
      test,
    });
  },
);

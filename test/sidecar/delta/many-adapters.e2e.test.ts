import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

test("1,000 adapters of mixed kinds through reader, delta and evaluator do not grow memory", () => {
  const script = fileURLToPath(new URL("../../fuzz/adapter-reader.mjs", import.meta.url));
  const run = spawnSync(process.execPath, [script, "--cases", "3000", "--seed", "90000"], { encoding: "utf8" });
  const result = JSON.parse(run.stdout.trim().split("\n").at(-1) ?? "{}") as { cases: number; memoryGrownMb: number; findings: unknown[] };
  expect(result.findings).toEqual([]);
  // The first 2,000 warm up the process; the last 1,000 count.
  expect(result.cases).toBe(3000);
  expect(result.memoryGrownMb).toBeLessThan(64);
}, 600_000);

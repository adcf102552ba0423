import { spawnSync } from "node:child_process";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

test("short fuzz run: whatever an adapter file says, every key of it is accounted for once, and no fault is without a name", () => {
  const result = spawnSync(process.execPath, ["test/hostile/fuzz-adapter.mjs", "4", "20261122"], { cwd: root, encoding: "utf8" });
  expect(result.stdout, result.stderr).toContain('"findings":[]');
  const counts = JSON.parse(result.stdout) as { cases: number; wholeFiles: number; usedKeys: number };
  expect(counts.cases).toBeGreaterThan(10);
  expect(counts.wholeFiles).toBeGreaterThan(0);
  expect(counts.usedKeys).toBeGreaterThan(0);
});

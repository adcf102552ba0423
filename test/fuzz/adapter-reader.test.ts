import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

// The short form. The long one: `node test/fuzz/adapter-reader.mjs --minutes 30 --seed N --result test/fuzz/adapter-reader.result.json`.
const built = existsSync(new URL("../../sidecar/dist/src/delta/index.js", import.meta.url));

test.skipIf(!built)("bent adapters give a delta or a named error (skipped without sidecar/dist: run `npm run build`)", () => {
  const script = fileURLToPath(new URL("adapter-reader.mjs", import.meta.url));
  const run = spawnSync(process.execPath, [script, "--cases", "150", "--seed", "5000"], { encoding: "utf8" });
  expect(run.stderr).toBe("");
  expect(JSON.parse(run.stdout.trim().split("\n").at(-1) ?? "{}")).toMatchObject({ cases: 150, findings: [] });
});

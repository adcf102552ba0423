// Is the conformance suite worth its name? Plants one bug at a time in a copy of the tensorrt adapter and expects the suite to fail on it.

import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { mutants, type Mutant } from "./mutants.ts";
import { simulatedTensorrt } from "./simulated-tensorrt.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const report = z.object({
  numPassedTests: z.number(),
  testResults: z.array(z.object({ assertionResults: z.array(z.object({ status: z.string(), fullName: z.string() })) })),
});
// The golden cases hold parameters without an engine; all else goes through the adapter.
const sections = "refits|failures|steps|fused";

function suite(folder: string, args: readonly string[]): { passed: number; failed: string[] } {
  const out = join(folder, "report.json");
  const { command, args: given } = simulatedTensorrt({ store: join(folder, "store"), args });
  const { REFIT_E2E: _, ...env } = process.env;
  spawnSync(
    process.execPath,
    [
      join(root, "node_modules/vitest/vitest.mjs"),
      "run",
      "test/hosts/command.test.ts",
      "-t",
      sections,
      "--bail",
      "1",
      "--reporter",
      "json",
      "--outputFile",
      out,
      "--testTimeout",
      "120000",
    ],
    {
      cwd: root,
      env: { ...env, PYTHONPATH: join(folder, "python"), OMP_NUM_THREADS: "1", REFIT_HOST_COMMAND: JSON.stringify([command, ...given]) },
      stdio: "ignore",
      timeout: 400_000,
    },
  );
  const { numPassedTests, testResults } = report.parse(JSON.parse(readFileSync(out, "utf8")));
  const failed = testResults.flatMap(({ assertionResults }) =>
    assertionResults.filter(({ status }) => status === "failed").map(({ fullName }) => fullName),
  );
  return { passed: numPassedTests, failed };
}

describe("bugs planted in the tensorrt adapter", () => {
  let folder = "";
  beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), "refit-mutants-"))));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const run = (index: number, change: (packages: string) => void, args: readonly string[] = []) => {
    const own = join(folder, String(index));
    cpSync(join(root, "sidecar/hosts/python"), join(own, "python"), { recursive: true, filter: (path) => !path.endsWith("__pycache__") });
    cpSync(join(root, "protocol/families"), join(own, "python/refit_graphs/described"), { recursive: true });
    change(join(own, "python"));
    return suite(own, args);
  };
  const plant =
    ({ file, find, replace }: Mutant) =>
    (packages: string): void => {
      const path = join(packages, file);
      const text = readFileSync(path, "utf8");
      expect(text.split(find), `${file} no longer holds the text that this bug changes`).toHaveLength(2);
      writeFileSync(
        path,
        text.replace(find, () => replace),
      );
    };

  it("the suite passes without a bug", () => {
    for (const [index, args] of [[], ["--base", "pinned"]].entries()) {
      const { passed, failed } = run(1000 + index, () => undefined, args);
      expect(failed).toEqual([]);
      expect(passed).toBeGreaterThan(50);
    }
  }, 600_000);

  it.each(mutants.map((mutant, index) => [mutant.name, mutant, index] as const))(
    "%s: the suite fails",
    (_, mutant, index) => {
      const { failed } = run(index, plant(mutant), mutant.args);
      console.log(`${mutant.name}: ${failed[0] ?? "NOT FOUND"}`);
      expect(failed.length).toBeGreaterThan(0);
    },
    420_000,
  );
});

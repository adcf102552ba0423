// The pass without the native addon runs the tests that can reach it; that is only right as long as the imports tell, and nothing is loaded by a name that is made at run time.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it } from "vitest";
import { processParts, reached, sidecarTests, withAddon } from "../../tools/addon-tests.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "refit-addon-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const { all, selected, apart } = sidecarTests();

it("keeps the tests of everything that computes with the addon", () => {
  for (const part of ["bake", "catalog", "delta", "refit", "storage", "store", "terms"])
    expect(
      selected.some((file) => file.startsWith(`test/sidecar/${part}/`)),
      part,
    ).toBe(true);
  expect(selected).toContain("test/sidecar/terms/merge-parameter.test.ts");
  expect(selected).toContain("test/sidecar/delta/golden.test.ts");
  expect([...selected, ...apart].sort()).toEqual([...all].sort());
});

it.each([
  ["a value of the package", 'import { native } from "@refit-sidecar/native";', true],
  ["a value over several lines", 'import {\n  native,\n} from "@refit-sidecar/native";', true],
  ["a part of the sidecar that uses it", `import { ensureDelta } from "${root}sidecar/src/delta/index.ts";`, true],
  ["another's value, handed on", `export { native } from "${root}native/ts/index.ts";`, true],
  ["an import for its effect", 'import "@refit-sidecar/native";', true],
  ["an import when it is wanted", 'const { native } = await import("@refit-sidecar/native");', true],
  ["a type", 'import type { Native } from "@refit-sidecar/native";', false],
  ["the writer of whole files", 'import { replaceFile } from "@refit-sidecar/native/replace-file";', false],
  ["nothing of it", 'import { planRefit } from "../plan/index.ts";', false],
])("sees %s", (what, text, expected) => {
  const file = join(folder, `${what.replaceAll(" ", "-")}.test.ts`);
  // The paths of the repository are made relative, as they are in a test.
  writeFileSync(file, text.replaceAll(`"${root}`, `"${join("../".repeat(folder.split("/").length), root)}`));
  expect(withAddon([file])).toEqual(expected ? [file] : []);
});

it("nothing that these tests reach is loaded by a name made at run time", () => {
  const files = apart.filter((file) => !processParts.includes(file.split("/")[2] ?? "")).map((file) => join(root, file));
  const sources = [...reached(files)].filter((path) => path.startsWith(root) && path.endsWith(".ts") && !path.includes("node_modules"));
  expect(sources.length).toBeGreaterThan(100);
  expect(sources.filter((path) => /\b(?:import|require)\((?!\s*["'])/.test(readFileSync(path, "utf8")))).toEqual([]);
});

// The layer rules are only worth something if they fire: each planted violation must be caught, by the rule that is meant for it.

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));
const tree = mkdtempSync(join(tmpdir(), "refit-layers-"));
symlinkSync(join(root, "node_modules"), join(tree, "node_modules"), "junction");
afterAll(() => rmSync(tree, { recursive: true, force: true }));

const files: Readonly<Record<string, string>> = {
  "sidecar/src/arrivals/index.ts": "export const seen = 1;\n",
  "sidecar/src/arrivals/inner.ts": "export const inner = 1;\n",
  "sidecar/src/catalog/index.ts": "export const entries = 1; export interface Entry { readonly id: string }\n",
  "sidecar/src/wire/index.ts": "export const socket = 1; export interface Session { readonly id: string }\n",
  "sidecar/src/terms/index.ts": "export const terms = 1;\n",
  "sidecar/src/plan/index.ts": "export const plan = 1;\n",
};

const planted: readonly (readonly [rule: string, file: string, content: string])[] = [
  ["catalog-values", "sidecar/src/catalog/bad.ts", 'import { seen } from "../arrivals/index.ts"; export const x = seen;\n'],
  ["catalog-looks-right", "sidecar/src/catalog/bad.ts", 'import type { Session } from "../wire/index.ts"; export type X = Session;\n'],
  ["catalog-looks-right", "sidecar/src/catalog/bad.ts", 'import { plan } from "../plan/index.ts"; export const x = plan;\n'],
  ["stage-door", "sidecar/src/pipeline/bad.ts", 'import { inner } from "../arrivals/inner.ts"; export const x = inner;\n'],
  ["leaves-stay-leaves", "sidecar/src/terms/bad.ts", 'import { entries } from "../catalog/index.ts"; export const x = entries;\n'],
  ["terms-pure", "sidecar/src/terms/bad.ts", 'import { readFileSync } from "node:fs"; export const x = readFileSync;\n'],
  ["plan-pure", "sidecar/src/plan/bad.ts", 'import { spawn } from "node:child_process"; export const x = spawn;\n'],
  ["watcher", "sidecar/src/catalog/bad.ts", 'import { watch } from "chokidar"; export const x = watch;\n'],
  ["sockets", "sidecar/src/catalog/bad.ts", 'import { WebSocket } from "ws"; export const x = WebSocket;\n'],
  ["hosts-apart", "sidecar/hosts/onnxruntime/bad.ts", 'import { entries } from "../../src/catalog/index.ts"; export const x = entries;\n'],
  ["no-cycles", "sidecar/src/plan/bad.ts", 'import { y } from "./worse.ts"; export const x = () => y;\n'],
];

function violations(): string[] {
  const config = join(root, ".dependency-cruiser.cjs");
  const run = spawnSync(
    process.execPath,
    [join(root, "node_modules/dependency-cruiser/bin/dependency-cruise.mjs"), "--config", config, "--output-type", "json", "sidecar"],
    { cwd: tree, encoding: "utf8", maxBuffer: 1 << 26 },
  );
  const report = JSON.parse(run.stdout) as { summary: { violations: { from: string; rule: { name: string } }[] } };
  return report.summary.violations.map((violation) => `${violation.rule.name} ${violation.from}`);
}

function write(file: string, content: string): void {
  mkdirSync(dirname(join(tree, file)), { recursive: true });
  writeFileSync(join(tree, file), content);
}

describe(".dependency-cruiser.cjs", () => {
  it("lets a tree pass that keeps the rules", () => {
    for (const [file, content] of Object.entries(files)) write(file, content);
    write(
      "sidecar/src/catalog/good.ts",
      'import type { Entry } from "./index.ts"; import { terms } from "../terms/index.ts"; export const x: Entry | number = terms;\n',
    );
    write("sidecar/src/refit/good.ts", 'import { plan } from "../plan/index.ts"; export const x = plan;\n');
    expect(violations()).toEqual([]);
  });

  it("catches every planted violation by its rule, in the file where it was planted", () => {
    const expected = planted.map(([rule, file, content], index) => {
      const own = file.replace("bad.ts", `bad-${index}.ts`);
      write(own, content);
      return `${rule} ${own}`;
    });
    const cycle = planted.findIndex(([rule]) => rule === "no-cycles");
    write("sidecar/src/plan/worse.ts", `import { x } from "./bad-${cycle}.ts"; export const y = () => x;\n`);
    expect(violations()).toEqual(expect.arrayContaining(expected));
  });
});

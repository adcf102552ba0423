// Every code that can be thrown stands in a table, and so in the error reference; no row of a table is left over.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { errorTable, failureTables, hostErrors, isKnownCode } from "@refit-sidecar/protocol";
import { beforeAll, describe, expect, it } from "vitest";

const root = join(import.meta.dirname, "../..");
const tables = [errorTable, hostErrors, ...Object.values(failureTables)];
const codes = tables.flatMap((table) => Object.keys(table));
/** The words that codes begin with: a text literal that begins with one, and is written as codes are, is a code. */
const stages = new Set(codes.filter((code) => /^[A-Z]+_/.test(code)).map((code) => code.slice(0, code.indexOf("_"))));
const declared =
  /^protocol\/src\/(errors\.ts|host\/errors\.ts|failures\/)|^plugin\/refit_sidecar_plugin\/messages\.py$|^sidecar\/hosts\/python\/refit_host\/wire\/protocol\.py$/;

/** Names that look like codes: environment variables, which begin with the same words, and words of other protocols. */
const others =
  /^REFIT_(ARM64|BENCH_|CONFIG|DATA_DIR|DEBUG|E2E|HOST_ENV|NATIVE|PORT|PYTHON|RAY_|SIDECAR|SIMD|THREADS|WHEEL_|X64|FRONTEND|SCREENSHOTS)|^CLIENT_ERRORS$|^HTTP_PROXY$|^TENSOR_(CORE|FLOAT)|^INVALID_ARGUMENT|^UNKNOWN_(ERROR|TYPE)|^NOT_(FOUND|IMPLEMENTED)|^NOT_REGULAR$/;

let literals: Map<string, string>;

beforeAll(() => {
  const files = execFileSync(
    "git",
    ["ls-files", "--cached", "--others", "--exclude-standard", "protocol", "native", "sidecar", "plugin", "page"],
    {
      cwd: root,
      encoding: "utf8",
    },
  )
    .split("\n")
    .filter((file) => /\.(tsx?|mts|mjs|js|py|cpp|cc|h|hpp|html)$/.test(file) && !declared.test(file) && !file.includes("/fuzz/"));
  literals = new Map();
  for (const file of files) {
    let text: string;
    try {
      text = readFileSync(join(root, file), "utf8");
    } catch {
      continue; // Deleted in the work tree.
    }
    for (const [, quoted, inText] of text.matchAll(/["'`]([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)["'`]|(?<= \[)([A-Z]+_[A-Z0-9_]+)(?=\])/g)) {
      const code = quoted ?? inText;
      if (code !== undefined && !literals.has(code)) literals.set(code, file);
    }
  }
});

describe("error codes", () => {
  it("stand in one table each", () => {
    expect(codes.filter((code, index) => codes.indexOf(code) !== index)).toEqual([]);
  });

  it("say what it means and what to do, in sentences", () => {
    for (const table of tables)
      for (const [code, row] of Object.entries(table)) {
        const { remedy } = row;
        const summary = "summary" in row ? row.summary : row.meaning;
        expect(
          [code, summary, remedy].every((text) => text.length > 0),
          code,
        ).toBe(true);
        expect(summary, code).toMatch(/^.+\.$/);
        expect(remedy, code).toMatch(/[.)]$/);
      }
  });

  it("are in the reference when a source names them", () => {
    const unknown = [...literals]
      .filter(([code]) => stages.has(code.split("_")[0] ?? "") && code.includes("_") && !others.test(code) && !isKnownCode(code))
      .map(([code, file]) => `${code} in ${file}`);
    expect(unknown, "add a row to protocol/src/failures").toEqual([]);
  });

  it("have a source that throws them", () => {
    expect(
      codes.filter((code) => !literals.has(code)),
      "rows that nothing throws",
    ).toEqual([]);
  });

  it("have an anchor in the reference", () => {
    const page = readFileSync(join(root, "docs/operate/errors.md"), "utf8");
    expect(codes.filter((code) => !page.includes(`<a id="${code}"></a>`))).toEqual([]);
  });
});

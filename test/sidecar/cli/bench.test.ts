// `refit-sidecar bench`: a short form of the benchmark on the CPU's engine. Its file has every phase, and nothing that tells whose computer it was.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { homedir, hostname, tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { spread } from "../../../sidecar/src/selftest/bench-host.ts";

const folder = mkdtempSync(join(tmpdir(), "refit-bench-test-"));
const program = join(import.meta.dirname, "../../../sidecar/bin/refit-sidecar.mjs");
const bench = (...args: readonly string[]) => spawnSync(process.execPath, [program, "bench", ...args], { cwd: folder, encoding: "utf8" });

afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Written {
  readonly versions: Readonly<Record<string, string>>;
  readonly rows: readonly {
    readonly phase: string;
    readonly p50: number;
    readonly p95: number | null;
    readonly n: number;
    readonly rank?: number;
    readonly layers?: number;
  }[];
}

describe("refit-sidecar bench", () => {
  it("writes one file with every phase, percentiles, rank, layers and versions, and without a name or a path", () => {
    const ended = bench("--host", "onnxruntime", "--repeats", "3", "--out", "mine.json", "--data-dir", join(folder, "data"));
    expect(ended.status, ended.stderr).toBe(0);
    const text = readFileSync(join(folder, "mine.json"), "utf8");
    const file = JSON.parse(text) as Written;
    expect(file).toMatchObject({ format: "refit-bench", version: 1 });
    expect(file.rows.map(({ phase }) => phase)).toEqual(["first", "step", "swap", "strength", "stack", "back", "checkpoint", "memory"]);
    for (const { phase, p50, p95, n } of file.rows) {
      expect(p50, phase).toBeGreaterThan(0);
      if (n === 1) expect(p95, phase).toBeNull();
      else expect(p95, phase).toBeGreaterThanOrEqual(p50);
    }
    const swap = file.rows.find(({ phase }) => phase === "swap");
    expect(swap).toMatchObject({ rank: 2, n: 3 });
    expect(swap?.layers).toBeGreaterThan(100);
    expect(Object.keys(file.versions)).toEqual(expect.arrayContaining(["refit-sidecar", "node", "onnxruntime"]));
    for (const name of [homedir(), userInfo().username, hostname(), folder, tmpdir()].filter((one) => one.length > 2))
      expect(text).not.toContain(name);
    expect(text).not.toMatch(/[A-Za-z]:\\|\/home\/|\/Users\/|\/tmp\//);
  }, 60_000);

  it("replaces an earlier file of its own, and nothing else", () => {
    const other = join(folder, "other.json");
    writeFileSync(other, '{"mine": true}');
    const refused = bench("--host", "onnxruntime", "--out", other);
    expect([refused.status, refused.stderr]).toEqual([2, expect.stringContaining("[CLI_ARGUMENTS]")]);
    expect(readFileSync(other, "utf8")).toBe('{"mine": true}');
  });

  it.each([
    ["--size", "huge"],
    ["--repeats", "1"],
    ["--host", "other"],
  ])("refuses %s %s with what it takes", (option, value) => {
    const ended = bench(option, value);
    expect([ended.status, ended.stderr]).toEqual([2, expect.stringMatching(/expects .*\[CLI_ARGUMENTS\]/)]);
  });
});

describe("spread", () => {
  it("is median and 95th percentile by the nearest rank", () => {
    expect(spread([5])).toEqual({ p50: 5, p95: null, n: 1 });
    expect(spread([3, 1, 2])).toEqual({ p50: 2, p95: 3, n: 3 });
    expect(spread(Array.from({ length: 100 }, (_, index) => index + 1))).toEqual({ p50: 50, p95: 95, n: 100 });
  });
});

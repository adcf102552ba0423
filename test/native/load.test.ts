import { execFile } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";

import { bindingVersion, checkAddon } from "../../native/ts/addon/binding.ts";
import { native } from "../../native/ts/index.ts";
import { loadNative } from "../../native/ts/load.ts";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const run = promisify(execFile);

test("REFIT_NATIVE=off forces the fallback and says so", () => {
  const forced = loadNative({ REFIT_NATIVE: "off" });
  expect(forced.kind).toBe("fallback");
  expect(forced.detail).toContain("REFIT_NATIVE=off");
});

test("the addon is built and chosen, or the reason is known", ({ skip }) => {
  if (process.env["REFIT_NATIVE"] === "off") skip("REFIT_NATIVE=off");
  expect(native.detail).toMatch(/^addon \((built here|prebuilt for [a-z0-9-]+)\), (avx512|avx2|neon|scalar), \d+ threads$/);
  expect(native.kind).toBe("native");
});

test("an addon of another build is refused by name", () => {
  expect(() => checkAddon(null)).toThrow(/expected version/);
  expect(() => checkAddon({ version: bindingVersion })).toThrow(/lacks/);
  expect(() => checkAddon({ version: bindingVersion + 1 })).toThrow(/npm run build/);
});

describe("one job in processes of their own", () => {
  /** SHA-256 of a merge's output, from a process with this environment. The addon is asked directly, without the build of the TypeScript. */
  const script = `
    const addon = require("node-gyp-build")(${JSON.stringify(join(root, "native"))});
    const floats = (n, seed) => Float32Array.from({ length: n }, (_, i) => Math.sin(i * 12.9898 + seed) );
    const [rows, cols, rank] = [333, 1290, 24];
    const out = new Uint8Array(rows * cols * 4);
    const base = new Uint8Array(floats(rows * cols, 1).buffer);
    addon.mergeLowRank(base, 2, 1, out, 2, rows, cols, [floats(rows * rank, 2), floats(rows * 3, 3)], [floats(rank * cols, 4), floats(3 * cols, 5)], [rank, 3], [0.3, -0.8], null)
      .then(() => console.log(JSON.stringify({ simd: addon.simd, sha256: require("crypto").createHash("sha256").update(out).digest("hex"), sample: [...new Float32Array(out.buffer).filter((_, i) => i % 997 === 0)] })));
  `;
  const merged = async (environment: Record<string, string>): Promise<{ simd: string; sha256: string; sample: number[] }> => {
    const { stdout } = await run(process.execPath, ["-e", script], { cwd: join(root, "native"), env: { ...process.env, ...environment } });
    return JSON.parse(stdout) as { simd: string; sha256: string; sample: number[] };
  };

  test("the bits do not depend on the number of threads", async ({ skip }) => {
    if (native.kind !== "native") skip("REFIT_NATIVE=off: the fallback has one thread");
    const hashes = await Promise.all(["1", "2", "3", "7"].map(async (threads) => (await merged({ REFIT_THREADS: threads })).sha256));
    expect(new Set(hashes).size).toBe(1);
  });

  test("instruction sets with fma give the same bits, plain ones the same within 1e-6", async ({ skip }) => {
    if (native.kind !== "native") skip("REFIT_NATIVE=off: the fallback has no instruction sets");
    const [widest, avx2, scalar, unknown] = [
      await merged({}),
      await merged({ REFIT_SIMD: "avx2" }),
      await merged({ REFIT_SIMD: "scalar" }),
      await merged({ REFIT_SIMD: "abacus" }),
    ];
    expect(unknown.simd).toBe(widest.simd);
    expect(scalar.simd).toBe("scalar");
    if (avx2.simd === "avx2") expect(avx2.sha256).toBe(widest.sha256);
    for (const [index, value] of scalar.sample.entries()) expect(Math.abs(value - widest.sample[index]!)).toBeLessThan(2e-5);
  });

  test("REFIT_DEBUG prints the choice on stderr", async () => {
    const source = `import { loadNative } from "./native/dist/load.js"; loadNative(process.env);`;
    const { stdout, stderr } = await run(process.execPath, ["--input-type=module", "-e", source], {
      cwd: root,
      env: { ...process.env, REFIT_DEBUG: "1", REFIT_NATIVE: "off" },
    });
    expect(stdout).toBe("");
    expect(stderr).toContain("native: TypeScript fallback: REFIT_NATIVE=off");
  });
});

import { defineConfig } from "vitest/config";
import { sidecarTests } from "./tools/addon-tests.mjs";

// The slow, real-process and real-UI runs carry ".e2e." in their name and belong to `npm run test:e2e`.
const e2e = process.env["REFIT_E2E"] === "1";
// The second pass, without the native addon: of the sidecar's tests, those that can reach it (test/layers/addon-apart.test.ts).
const withoutAddon = process.env["REFIT_NATIVE"] === "off" ? sidecarTests().apart : [];
const exclude = ["**/node_modules/**", ...(process.platform === "win32" ? [] : ["test/**/*.windows.test.ts"]), ...withoutAddon];

// What changes its process (environment, threads, time limits), or holds much memory, has one for each file. The others share two: modules are read and built once.
const ownProcess = [
  "test/hosts/**/*.test.ts",
  "test/native/**/*.test.ts",
  "test/fuzz/**/*.test.ts",
  "test/hostile/**/*.test.ts",
  "test/release/**/*.test.ts",
  "test/reported/**/*.test.ts",
  "test/sidecar/delta/delta-service.test.ts",
  "test/sidecar/host/environment.test.ts",
  "test/sidecar/cli/**/*.test.ts",
  "test/sidecar/install/**/*.test.ts",
  "test/sidecar/selftest/**/*.test.ts",
];

const shared = { testTimeout: 60_000, hookTimeout: 120_000, pool: "forks" as const, setupFiles: ["test/expect-bytes.ts"] };

export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: e2e
      ? [{ test: { ...shared, name: "e2e", include: ["test/**/*.e2e.test.ts"], exclude } }]
      : [
          { test: { ...shared, name: "own process", include: ownProcess, exclude: [...exclude, "test/**/*.e2e.test.ts"] } },
          {
            test: {
              ...shared,
              name: "shared",
              isolate: false,
              include: ["test/**/*.test.ts"],
              exclude: [...exclude, ...ownProcess, "test/**/*.e2e.test.ts"],
            },
          },
        ],
  },
});

import { defineConfig } from "vitest/config";

// The slow, real-process and real-UI runs carry ".e2e." in their name and belong to `npm run test:e2e`.
const e2e = process.env["REFIT_E2E"] === "1";
/** Parts that cannot reach the native addon (test/layers/addon-apart.test.ts): their tests would be the same twice. */
export const addonApart = ["arrivals", "jobs", "options", "plan", "step", "telemetry", "wire"];
// The second pass, without the native addon. Commands, installations and self-tests start processes and compare what they say; numbers are compared in the other files.
const withoutAddon =
  process.env["REFIT_NATIVE"] === "off" ? ["cli", "install", "selftest", ...addonApart].map((part) => `test/sidecar/${part}/**`) : [];

export default defineConfig({
  test: {
    include: e2e ? ["test/**/*.e2e.test.ts"] : ["test/**/*.test.ts"],
    exclude: [
      "**/node_modules/**",
      ...(process.platform === "win32" ? [] : ["test/**/*.windows.test.ts"]),
      ...withoutAddon,
      ...(e2e ? [] : ["test/**/*.e2e.test.ts"]),
    ],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    pool: "forks",
    maxWorkers: 2,
  },
});

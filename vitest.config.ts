import { defineConfig } from "vitest/config";

// The slow, real-process and real-UI runs carry ".e2e." in their name and belong to `npm run test:e2e`.
const e2e = process.env["REFIT_E2E"] === "1";
// The second pass, without the native addon: installations do not touch it and take a minute of pip.
const withoutAddon = process.env["REFIT_NATIVE"] === "off" ? ["test/sidecar/install/**"] : [];

export default defineConfig({
  test: {
    include: e2e ? ["test/**/*.e2e.test.ts"] : ["test/**/*.test.ts"],
    exclude: ["**/node_modules/**", ...withoutAddon, ...(e2e ? [] : ["test/**/*.e2e.test.ts"])],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    pool: "forks",
    maxWorkers: 2,
    globalSetup: [],
  },
});

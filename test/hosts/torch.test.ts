import { fileURLToPath } from "node:url";
import { vi } from "vitest";
import { testPython } from "../../tools/python-env.mjs";
import type { HostCommand } from "../../sidecar/src/host/index.ts";
import { hostConformance } from "./conformance.ts";

// Importing torch takes seconds, and several tests start a host of their own.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const root = fileURLToPath(new URL("../../", import.meta.url));
const torchHost = (...args: string[]): HostCommand => ({
  kind: "torch",
  command: testPython(root),
  args: ["-m", "refit_host", "--kind", "torch", "--device", "cpu", ...args],
  env: { PYTHONPATH: fileURLToPath(new URL("../../sidecar/hosts/python", import.meta.url)), OMP_NUM_THREADS: "1" },
});

hostConformance("torch", torchHost());
// The same again with the other home of the base: a long test.
if (process.env["REFIT_E2E"] !== undefined) hostConformance("torch, base read from the file", torchHost("--base", "file"));
// And with most weights streamed from host memory during each step.
if (process.env["REFIT_E2E"] !== undefined) hostConformance("torch, weights streamed", torchHost("--weights-mib", "8"));

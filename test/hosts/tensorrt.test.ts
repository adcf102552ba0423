import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, vi } from "vitest";
import { hostConformance } from "./conformance.ts";
import { simulatedTensorrt } from "./simulated-tensorrt.ts";

// Importing torch takes seconds, and several tests start a host of their own.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const store = mkdtempSync(join(tmpdir(), "refit-engines-"));
afterAll(() => rmSync(store, { recursive: true, force: true }));

// Its merges, frames and process are the torch host's, which runs them all; as a whole, with the vectors and every home of the base, it runs in test:e2e.
hostConformance("tensorrt, simulated library", simulatedTensorrt({ store }), { vectors: false, weightsOnly: true });

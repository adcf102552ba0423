// The GPU hosts' conformance once more with every other home of the base, and with weights that are streamed in each step.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, vi } from "vitest";
import { torchHost } from "./commands.ts";
import { hostConformance } from "./conformance.ts";
import { simulatedTensorrt } from "./simulated-tensorrt.ts";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const store = mkdtempSync(join(tmpdir(), "refit-engines-"));
afterAll(() => rmSync(store, { recursive: true, force: true }));

hostConformance("torch, base read from the file", torchHost("--base", "file"));
hostConformance("torch, weights streamed", torchHost("--weights-mib", "8"));
for (const base of ["pinned", "file"])
  hostConformance(`tensorrt, simulated library, base ${base}`, simulatedTensorrt({ store, args: ["--base", base] }));

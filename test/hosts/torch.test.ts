import { vi } from "vitest";
import { torchHost } from "./commands.ts";
import { hostConformance } from "./conformance.ts";

// Importing torch takes seconds, and several tests start a host of their own.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

hostConformance("torch", torchHost());

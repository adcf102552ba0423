import { cpus, release, totalmem } from "node:os";
import type { Gpu } from "../install/host/index.ts";
import type { SystemFacts } from "./types.ts";

/** What a reader has to know of the computer; nothing that tells whose it is. */
export function systemFacts(gpus: readonly Gpu[]): SystemFacts {
  return {
    platform: `${process.platform}-${process.arch}`,
    release: release(),
    node: process.versions.node,
    processor: cpus()[0]?.model.trim() ?? "unknown",
    processors: cpus().length,
    memoryBytes: totalmem(),
    gpus,
  };
}

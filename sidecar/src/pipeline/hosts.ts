// Which engine hosts this computer can run, and how each is started.

import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { Failure } from "../failure/index.ts";
import { startHost } from "../host/index.ts";
import type { Host, HostCommand } from "../host/index.ts";
import { packageRoot } from "../package-root.ts";

export type HostKind = "onnxruntime" | "torch" | "tensorrt";

export interface HostsOptions {
  /** Python with PyTorch and diffusers; null: only the embedded host. */
  readonly python: string | null;
  readonly onLog: (kind: string, line: string) => void;
}

/** Throws HOST_NOT_CONFIGURED. */
export function hostCommand(kind: string, python: string | null): HostCommand {
  if (kind === "onnxruntime") return { kind, command: process.execPath, args: [join(packageRoot, "dist", "hosts", "onnxruntime", "main.js")] };
  if (kind !== "torch" && kind !== "tensorrt") throw new Failure("HOST_NOT_CONFIGURED", `expected the host onnxruntime, torch or tensorrt, got ${JSON.stringify(kind)}`, { kind });
  if (python === null) {
    throw new Failure("HOST_NOT_CONFIGURED", `the ${kind} host needs a Python with its packages; run "refit-sidecar host install ${kind}", or pass --python`, { kind });
  }
  const env = { PYTHONPATH: [join(packageRoot, "hosts", "python"), process.env["PYTHONPATH"]].filter(Boolean).join(delimiter), PYTHONUNBUFFERED: "1" };
  return { kind, command: python, args: ["-m", "refit_host", "--kind", kind], env };
}

export function createHostStarter({ python }: HostsOptions): (kind: string) => Promise<Host> {
  return (kind) => startHost(hostCommand(kind, python));
}

/** The host that "auto" means: the embedded one, unless the operator named a Python for a GPU host. */
export function autoHost(configured: "auto" | HostKind, python: string | null): HostKind {
  if (configured !== "auto") return configured;
  return python !== null && existsSync(join(packageRoot, "hosts", "python", "refit_host", "__main__.py")) ? "torch" : "onnxruntime";
}

// What a host's Python says of itself and of this computer (`python -m refit_host.about`).

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { hostEnvironment, pythonRun } from "../host/index.ts";
import type { HostPython } from "../host/index.ts";

/** What compiled engines depend on here, in the words of the store's keys. */
export interface EnginePlatform {
  readonly host: string;
  readonly library: string;
  readonly capability: string;
  readonly driverBranch: string;
}

export interface About {
  readonly python: string;
  readonly executable: string;
  readonly versions: Readonly<Record<string, string>>;
  readonly device: { readonly type: string; readonly name: string; readonly capability?: string; readonly memory_bytes?: number } | null;
  readonly engines?: readonly EnginePlatform[];
  readonly tier?: string;
  readonly why?: string;
  readonly problem?: string;
}

/** Importing PyTorch from a cold disk takes a while. */
const aboutTimeoutMs = 120_000;

/** A text says why it could not be asked. */
export async function aboutPython(python: HostPython): Promise<About | string> {
  const { command, args, env } = pythonRun(python, "refit_host.about");
  try {
    const { stdout } = await promisify(execFile)(command, [...args], {
      timeout: aboutTimeoutMs,
      windowsHide: true,
      maxBuffer: 1 << 20,
      env: hostEnvironment(env),
    });
    return JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as About;
  } catch (error) {
    return error instanceof Error ? (error.message.trim().split("\n").at(-1) ?? "") : String(error);
  }
}

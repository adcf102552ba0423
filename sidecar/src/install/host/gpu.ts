import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import type { Gpu } from "./types.ts";

const fields = ["name", "compute_cap", "driver_version", "memory.total"];
const timeoutMs = 15_000;

/** One line of `nvidia-smi --query-gpu=… --format=csv,noheader,nounits`; null for one that is something else. */
export function parseGpu(line: string): Gpu | null {
  const [name = "", capability = "", driver = "", memory = ""] = line.split(",").map((part) => part.trim());
  if (!/^\d+\.\d+$/.test(capability) || !/^\d+(\.\d+)*$/.test(driver)) return null;
  return { name, capability, driver, memoryMib: Number(memory) || 0 };
}

/** NVIDIA cards that the driver shows, without any Python; none where there is no driver. */
export async function findGpus(): Promise<readonly Gpu[]> {
  try {
    const { stdout } = await promisify(execFile)("nvidia-smi", [`--query-gpu=${fields.join(",")}`, "--format=csv,noheader,nounits"], {
      timeout: timeoutMs,
      windowsHide: true,
    });
    return stdout
      .split("\n")
      .map(parseGpu)
      .filter((gpu) => gpu !== null);
  } catch {
    return [];
  }
}

/** Whether a kernel driver for AMD compute is loaded (Linux only: PyTorch has no ROCm wheels elsewhere). */
export const hasAmdCompute = (): boolean => process.platform === "linux" && existsSync("/dev/kfd");

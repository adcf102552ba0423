// Which cards TensorRT for RTX serves. From its support matrix (compute capabilities 7.5, 8.x, 12.x) and from what was tried here.

import type { Gpu } from "./types.ts";

export type TensorrtSupport =
  | { readonly supported: true; readonly cuda: "cu12" | "cu13"; readonly note: string | null }
  | { readonly supported: false; readonly reason: string };

/** Ampere, Ada, Blackwell for RTX, and Turing, whose engines are built for it alone. */
const served: Readonly<Record<string, string | null>> = {
  "7.5": "Turing: engines are built for this card alone and hold no bf16 weights",
  "8.0": null,
  "8.6": null,
  "8.9": null,
  "12.0": null,
  "12.1": null,
};

/** Driver branches from which a CUDA major version's programs run (NVIDIA's CUDA compatibility guide; Linux and Windows start in the same branch). */
const firstBranch = { cu13: 580, cu12: 525 } as const;

/** Decides from the card that would be used, the first one. `platform` as Node names it. */
export function tensorrtSupport(gpus: readonly Gpu[], platform: string, arch: string): TensorrtSupport {
  if ((platform !== "linux" && platform !== "win32") || arch !== "x64")
    return { supported: false, reason: `TensorRT for RTX has packages for Linux and Windows on x86-64, not for ${platform} on ${arch}` };
  const [gpu] = gpus;
  if (gpu === undefined)
    return {
      supported: false,
      reason:
        "no NVIDIA card is visible: nvidia-smi is missing or shows none. Install the driver, or let the torch host or the embedded engine serve",
    };
  const note = served[gpu.capability];
  if (note === undefined) {
    const why =
      gpu.capability === "9.0"
        ? "its compiler does not know 9.0, and engines for other cards do not load there"
        : `expected one of ${Object.keys(served).join(", ")}`;
    return {
      supported: false,
      reason: `${gpu.name} has compute capability ${gpu.capability}, which TensorRT for RTX does not serve: ${why}. The torch host serves this card`,
    };
  }
  const branch = Number.parseInt(gpu.driver, 10);
  if (branch < firstBranch.cu12)
    return { supported: false, reason: `the driver ${gpu.driver} is older than ${firstBranch.cu12}, the first for CUDA 12; update it` };
  return { supported: true, cuda: branch >= firstBranch.cu13 ? "cu13" : "cu12", note };
}

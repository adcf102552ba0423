import type { Gpu, InstalledHost } from "./host/index.ts";
import type { Interface } from "./types.ts";

/** What is decided about the engine host of a graphics card when the plugin goes into a UI. */
export type GpuHostPlan =
  /** No card, or the host is there already. */
  | { readonly kind: "nothing" }
  /** The user has to do it, or left it out: the line says how. */
  | { readonly kind: "note"; readonly note: string }
  /** Installed beside the packages of the UI's Python, which stay as they are. */
  | { readonly kind: "install"; readonly python: string; readonly says: string; readonly command: string };

export interface GpuHostSight {
  readonly ui: Interface;
  readonly gpus: readonly Gpu[];
  /** The torch host of this data folder. */
  readonly installed: InstalledHost | null;
  /** The UI's own Python, where it was found. */
  readonly python: string | null;
  /** --no-gpu leaves it out. */
  readonly wanted: boolean;
}

/** Without it a UI on a card would never find an engine that is faster than itself. */
export function planGpuHost({ gpus, installed, python, wanted }: GpuHostSight): GpuHostPlan {
  const card = gpus[0]?.name;
  if (card === undefined || installed !== null) return { kind: "nothing" };
  const command = `refit-sidecar host install torch${python === null ? " --reuse PYTHON" : ` --reuse "${python}"`}`;
  if (!wanted) return { kind: "note", note: `The engine for the ${card} was left out. When you want it: ${command}` };
  if (python === null)
    return {
      kind: "note",
      note: `One more step for the ${card}: ${command} (PYTHON: the program that runs the UI; about 150 MB are downloaded, its own packages stay as they are).`,
    };
  return {
    kind: "install",
    python,
    command,
    says: `the engine for the ${card}: downloads about 150 MB beside the UI's own PyTorch, whose packages stay as they are (--no-gpu leaves it out)`,
  };
}

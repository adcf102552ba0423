// A module path of diffusers beside its checkpoint name.

import type { Target } from "../types.ts";

/** A diffusers stem (module path without `.weight`) and what it is called in the checkpoint. */
export interface StemPair {
  readonly diffusers: string;
  readonly native: string;
  /** Rows of the native parameter that the diffusers one covers. */
  readonly slice?: { readonly start: number; readonly length: number };
  /** The diffusers parameter has its two halves in the other order. */
  readonly swapHalves?: boolean;
  /** Parameter suffix of the native stem when it is not `.weight` (norms of some families end in `.scale`). */
  readonly nativeSuffix?: string;
}

/** The parameter (or its rows) that adapters of this stem act on. */
export function stemTarget(pair: StemPair): Target {
  return {
    parameter: pair.native + (pair.nativeSuffix ?? ".weight"),
    ...(pair.slice ? { slice: pair.slice } : {}),
    ...(pair.swapHalves ? { swapHalves: true } : {}),
  };
}

/** kohya and LyCORIS put `_` for `.` in module paths. */
export const underscored = (stem: string): string => stem.replaceAll(".", "_");

// The tensors of an adapter file as the recogniser sees them: by name after whole-file renames.

import type { Dtype } from "@refit-sidecar/native";

export interface AdapterTensor {
  /** Key in the file; null for a tensor that a rename rule adds. */
  readonly key: string | null;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Values of small tensors (alpha, reshape_weight, on_input). */
  readonly numbers?: readonly number[];
}

export type AdapterTensors = ReadonlyMap<string, AdapterTensor>;

// Input width of an adapted module, from the shapes of its tensors.

import type { Parameters } from "./parameters.ts";
import { loraSpellings } from "./suffixes.ts";

/** In-features (or in-channels) of the module; null when its tensors do not tell (OFT, norms, missing parts). */
export function inputWidth(shapes: Parameters, stem: string): number | null {
  const dim = (suffix: string, index: number): number | null => shapes.get(stem + suffix)?.[index] ?? null;
  for (const { down } of loraSpellings) {
    const width = dim(down, 1);
    if (width !== null) return width;
  }
  const hadamard = dim(".hada_w1_b", 1);
  if (hadamard !== null) return hadamard;
  const left = dim(".lokr_w1", 1) ?? dim(".lokr_w1_b", 1);
  const right = dim(".lokr_w2", 1) ?? dim(".lokr_w2_b", 1);
  if (left !== null && right !== null) return left * right;
  const full = dim(".diff", 1) ?? dim(".set_weight", 1);
  if (full !== null) return full;
  // GLoRA's a2 is [rank, in] in the new layout and [in, rank] in the old one; ranks are far below widths.
  const a2 = shapes.get(`${stem}.a2.weight`);
  return a2 && a2.length >= 2 ? Math.max(a2[0] ?? 0, a2[1] ?? 0) : null;
}

/** Out-features (or out-channels) of the module; null when its tensors do not tell. */
export function outputRows(shapes: Parameters, stem: string): number | null {
  const dim = (suffix: string, index = 0): number | null => shapes.get(stem + suffix)?.[index] ?? null;
  for (const { up } of loraSpellings) {
    const rows = dim(up);
    if (rows !== null) return rows;
  }
  const left = dim(".lokr_w1") ?? dim(".lokr_w1_a");
  const right = dim(".lokr_w2") ?? dim(".lokr_w2_a");
  if (left !== null && right !== null) return left * right;
  return dim(".hada_w1_a") ?? dim(".diff") ?? dim(".set_weight");
}

// Size and rank of an adapted module, from the shapes of its tensors.

import { elements } from "../kinds/kind.ts";
import type { Parameters } from "./parameters.ts";
import { loraSpellings } from "./suffixes.ts";

/** Rank of the low-rank factors; null for kinds without one. */
export function moduleRank(shapes: Parameters, module: string): number | null {
  const down = loraSpellings.map((spelling) => shapes.get(module + spelling.down)).find((shape) => shape !== undefined);
  const rank =
    down ??
    shapes.get(`${module}.hada_w1_b`) ??
    shapes.get(`${module}.lokr_w2_b`) ??
    shapes.get(`${module}.lokr_w1_b`) ??
    shapes.get(`${module}.a2.weight`);
  if (!rank) return null;
  return down || !shapes.has(`${module}.a2.weight`) ? (rank[0] ?? null) : Math.min(...rank.slice(0, 2));
}

/** Number of values that the module's change has; null when the file does not tell (OFT knows rows only). */
export function moduleElements(shapes: Parameters, module: string): number | null {
  const get = (suffix: string): readonly number[] | undefined => shapes.get(module + suffix);
  for (const spelling of loraSpellings) {
    const [up, down] = [get(spelling.up), get(spelling.down)];
    if (!up || !down) continue;
    const core = "mid" in spelling ? get(spelling.mid) : undefined;
    return (up[0] ?? 0) * elements(down.slice(1)) * (core ? elements(core.slice(2)) : 1);
  }
  const full = get(".diff") ?? get(".set_weight") ?? get(".w_norm");
  if (full) return elements(full);
  const hada = [get(".hada_w1_a"), get(".hada_w1_b"), get(".hada_t1")];
  if (hada[0] && hada[1])
    return hada[2] ? (hada[0][1] ?? 0) * (hada[1][1] ?? 0) * elements(hada[2].slice(2)) : (hada[0][0] ?? 0) * (hada[1][1] ?? 0);
  const side = (whole: string, a: string, b: string, core: string): number | null => {
    const [own, left, right, tucker] = [get(whole), get(a), get(b), get(core)];
    if (own) return elements(own);
    if (!left || !right) return null;
    return tucker ? (left[1] ?? 0) * (right[1] ?? 0) * elements(tucker.slice(2)) : (left[0] ?? 0) * (right[1] ?? 0);
  };
  const w1 = side(".lokr_w1", ".lokr_w1_a", ".lokr_w1_b", ".lokr_w1_t");
  const w2 = side(".lokr_w2", ".lokr_w2_a", ".lokr_w2_b", ".lokr_t2");
  if (w1 !== null && w2 !== null) return w1 * w2;
  const [b1, b2] = [get(".b1.weight"), get(".b2.weight")];
  return b1 && b2 ? Math.max((b1[0] ?? 0) * elements(b2.slice(1)), (b2[0] ?? 0) * elements(b1.slice(1))) : null;
}

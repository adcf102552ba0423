// What a packed adapter touches, and how strongly: one row a parameter, from the delta file alone.

import type { Native } from "@refit-sidecar/native";
import { changeNorm, f32Factors, openDelta, termRank } from "../../terms/index.ts";
import type { Term } from "../../terms/index.ts";

export interface TouchedLayer {
  readonly parameter: string;
  readonly kinds: readonly string[];
  readonly rank: number | null;
  /** Null where the change depends on the checkpoint's values. */
  readonly norm: number | null;
}

/** Adapters with full products in them (LoHa) may be large; after this long the rest stays unmeasured. */
const longestMs = 20_000;

/** Throws what opening and reading a delta throw. `nowMs` is a monotonic clock. */
export async function measureDelta(path: string, native: Native, nowMs: () => number): Promise<TouchedLayer[]> {
  const delta = await openDelta(await native.openTensorFile(path));
  try {
    const started = nowMs();
    const byParameter = new Map<string, Term[]>();
    for (const term of delta.header.terms) {
      const known = byParameter.get(term.target.parameter);
      if (known === undefined) byParameter.set(term.target.parameter, [term]);
      else known.push(term);
    }
    const layers: TouchedLayer[] = [];
    for (const [parameter, terms] of byParameter) {
      const factors = f32Factors(delta.factor, native);
      const norms: (number | null)[] = [];
      for (const term of terms) norms.push(nowMs() - started > longestMs ? null : await changeNorm(term, factors, native));
      // Terms on rows of one parameter do not overlap, so their squares add up; for others this is what they would have if they did not.
      const norm = norms.includes(null) ? null : Math.hypot(...norms.map((each) => each ?? 0));
      const ranks = terms.flatMap((term) => termRank(term, delta.shapeOf) ?? []);
      layers.push({
        parameter,
        kinds: [...new Set(terms.map(({ kind }) => kind))],
        rank: ranks.length === 0 ? null : Math.max(...ranks),
        norm,
      });
    }
    return layers;
  } finally {
    await delta.close();
  }
}

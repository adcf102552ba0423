// LoRA and LoCon: up * down, optionally through a convolution core (tucker).

import type { Term } from "../types.ts";
import {
  checkCount,
  checkWorkingSize,
  columns,
  elements,
  shown,
  type F32Tensor,
  type Kind,
  type KindContext,
  type Shape,
  type View,
} from "./kind.ts";
import { foldCore, product } from "./tensor-math.ts";
import { loraSpellings } from "../names/suffixes.ts";
import { reading, scaleFor, type Recogniser } from "./recognise.ts";

export type LowRankTerm = Extract<Term, { kind: "lowRank" }>;

export const lowRank: Kind<LowRankTerm> = {
  factorNames: (term) => [term.up, term.down, ...(term.mid === undefined ? [] : [term.mid])],

  check(term, shapeOf, view) {
    const up = shapeOf(term.up);
    const down = shapeOf(term.down);
    const target = term.padTo ?? view;
    if (up.length < 2 || down.length < 2) return `up ${shown(up)} and down ${shown(down)} must have at least 2 dimensions`;
    if (term.padTo !== undefined) {
      const problem = checkPad(term, view);
      if (problem !== null) return problem;
    }
    if (term.mid === undefined) {
      if (columns(up) !== down[0]) return `the rank of up ${shown(up)} differs from that of down ${shown(down)}`;
      return checkCount(up[0] ?? 0, columns(down), target);
    }
    const mid = shapeOf(term.mid);
    if (mid.length !== 4 || mid[0] !== down[0] || mid[1] !== down[0])
      return `mid ${shown(mid)} does not fit down ${shown(down)}: expected [r, r, kh, kw]`;
    if (columns(up) !== mid[0] || elements(down.slice(2)) !== 1)
      return `up ${shown(up)} and down ${shown(down)} do not fit mid ${shown(mid)}`;
    const working = checkWorkingSize((mid[0] ?? 0) * (down[1] ?? 0) * elements(mid.slice(2)));
    return working ?? checkCount(up[0] ?? 0, (down[1] ?? 0) * elements(mid.slice(2)), target);
  },

  async change(term, _view, context) {
    const { up, down } = await lowRankFactors(term, context);
    return { values: await product(context.kernels, up, down), scale: term.scale };
  },
};

function checkPad(term: LowRankTerm, view: Shape): string | null {
  const shape = term.padTo ?? [];
  if (term.target.slice !== undefined || term.target.swapHalves === true) return "a part of a parameter cannot be padded";
  if (shape.length !== view.length || shape.some((dim, index) => dim < (view[index] ?? 0)))
    return `reshape_weight ${shown(shape)} is smaller than the parameter's shape ${shown(view)}`;
  return checkWorkingSize(elements(shape));
}

/** Factors in matrix form: up [o, r], down [r, rest]. A convolution core is folded into down. */
export async function lowRankFactors(
  term: LowRankTerm,
  context: Pick<KindContext, "factors" | "kernels">,
): Promise<{ up: F32Tensor; down: F32Tensor }> {
  const up = await context.factors(term.up);
  const down = await context.factors(term.down);
  if (term.mid === undefined) return { up, down };
  return { up, down: await foldCore(context.kernels, down, await context.factors(term.mid)) };
}

/** Zero-pads at the high end of every dimension. */
export function padded(view: View, shape: Shape): View {
  const data = new Float32Array(elements(shape));
  const last = view.shape.length - 1;
  const width = view.shape[last] ?? 1;
  const outer = view.shape.slice(0, -1);
  for (let row = 0; row < view.data.length / width; row += 1) {
    let rest = row;
    let target = 0;
    let stride = shape[last] ?? 1;
    for (let dim = last - 1; dim >= 0; dim -= 1) {
      const size = outer[dim] ?? 1;
      target += (rest % size) * stride;
      rest = Math.floor(rest / size);
      stride *= shape[dim] ?? 1;
    }
    data.set(view.data.subarray(row * width, (row + 1) * width), target);
  }
  return { shape, data };
}

/** Source: ComfyUI `weight_adapter/lora.py`, `load`. */
export const recogniseLora: Recogniser = (tensors, context) => {
  const spelling = loraSpellings.find(({ up }) => tensors.has(up));
  if (!spelling) return [];
  const mid = "mid" in spelling && tensors.has(spelling.mid) ? spelling.mid : null;
  return [
    reading(tensors, [spelling.up, spelling.down], [...(mid === null ? [] : [mid]), ".reshape_weight"], () => {
      const rank = tensors.shape(spelling.down)[0] ?? 0;
      if (rank === 0) return "the rank is 0";
      const padTo = tensors.numbers(".reshape_weight");
      return {
        kind: "lowRank",
        scale: scaleFor(context, rank),
        up: tensors.factor(spelling.up),
        down: tensors.factor(spelling.down),
        ...(mid === null ? {} : { mid: tensors.factor(mid) }),
        ...(padTo === undefined ? {} : { padTo }),
      };
    }),
  ];
};

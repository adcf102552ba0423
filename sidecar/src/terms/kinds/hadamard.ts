// LoHa: elementwise product of two low-rank (or tucker) matrices.

import type { Term } from "../types.ts";
import { checkCount, columns, shown, type F32Tensor, type Kind, type KindContext, type Shape } from "./kind.ts";
import { checkTucker, product, tuckerProduct } from "./tensor-math.ts";
import { reading, scaleFor, type Recogniser } from "./recognise.ts";

type HadamardTerm = Extract<Term, { kind: "hadamard" }>;

export const hadamard: Kind<HadamardTerm> = {
  factorNames: (term) => [
    term.w1a,
    term.w1b,
    term.w2a,
    term.w2b,
    ...(term.t1 === undefined ? [] : [term.t1]),
    ...(term.t2 === undefined ? [] : [term.t2]),
  ],

  check(term, shapeOf, view) {
    const first = half(shapeOf(term.w1a), shapeOf(term.w1b), term.t1 === undefined ? null : shapeOf(term.t1));
    const second = half(shapeOf(term.w2a), shapeOf(term.w2b), term.t2 === undefined ? null : shapeOf(term.t2));
    if (typeof first === "string") return first;
    if (typeof second === "string") return second;
    if (first.join() !== second.join()) return `the two halves have the shapes ${shown(first)} and ${shown(second)}`;
    return checkCount(first[0] ?? 0, columns(first), view);
  },

  async change(term, _view, context) {
    const values = await evaluateHalf(term.w1a, term.w1b, term.t1, context);
    const other = await evaluateHalf(term.w2a, term.w2b, term.t2, context);
    for (let index = 0; index < values.length; index += 1) values[index] = (values[index] ?? 0) * (other[index] ?? 0);
    return { values, scale: term.scale };
  },
};

/** Shape of one half, or what is wrong with it. */
function half(a: Shape, b: Shape, core: Shape | null): Shape | string {
  if (core === null) {
    if (a.length !== 2 || b.length !== 2 || a[1] !== b[0]) return `the factors ${shown(a)} and ${shown(b)} cannot be multiplied`;
    return [a[0] ?? 0, b[1] ?? 0];
  }
  return checkTucker(core, a, b) ?? [a[1] ?? 0, b[1] ?? 0, ...core.slice(2)];
}

async function evaluateHalf(a: string, b: string, core: string | undefined, context: KindContext): Promise<Float32Array> {
  const [wa, wb]: [F32Tensor, F32Tensor] = [await context.factors(a), await context.factors(b)];
  if (core === undefined) return product(context.kernels, wa, wb);
  return (await tuckerProduct(context.kernels, await context.factors(core), wa, wb)).data;
}

/** Source: ComfyUI `weight_adapter/loha.py`, `load`. */
export const recogniseLoha: Recogniser = (tensors, context) => {
  if (!tensors.has(".hada_w1_a")) return [];
  const cores = tensors.has(".hada_t1") ? [".hada_t1", ".hada_t2"] : [];
  return [
    reading(tensors, [".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ...cores], [], () => {
      const rank = tensors.shape(".hada_w1_b")[0] ?? 0;
      if (rank === 0) return "the rank is 0";
      return {
        kind: "hadamard",
        scale: scaleFor(context, rank),
        w1a: tensors.factor(".hada_w1_a"),
        w1b: tensors.factor(".hada_w1_b"),
        w2a: tensors.factor(".hada_w2_a"),
        w2b: tensors.factor(".hada_w2_b"),
        ...(cores.length > 0 ? { t1: tensors.factor(".hada_t1"), t2: tensors.factor(".hada_t2") } : {}),
      };
    }),
  ];
};

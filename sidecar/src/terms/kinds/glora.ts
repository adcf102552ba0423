// GLoRA: a low-rank change plus a low-rank product with the weight as patched so far. Two layouts exist in the wild.

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
import { product } from "./tensor-math.ts";
import { kindSuffixes } from "../names/suffixes.ts";
import { reading, scaleFor, type Recogniser } from "./recognise.ts";

type GloraTerm = Extract<Term, { kind: "glora" }>;
type Four<Of> = Readonly<Record<"a1" | "a2" | "b1" | "b2", Of>>;

/**
 * Which layout the factors have (rule of ComfyUI's `glora.py`): the old one when ranks meet in it, overruled by the new one unless the weight is
 * square and a2 has its height. Null when they fit neither.
 */
function gloraLayout({ a1, a2, b1, b2 }: Four<Shape>, view: Shape): { layout: "old" | "new"; rank: number } | null {
  const old = b2[1] === b1[0] && b1[0] === a1[0] && a1[0] === a2[1];
  const fresh = b2[0] === b1[1] && b1[1] === a1[1] && a1[1] === a2[0];
  const keepOld = old && a2[0] === view[0] && view[0] === view[1];
  if (fresh && !keepOld) return { layout: "new", rank: a2[0] ?? 0 };
  return old ? { layout: "old", rank: a1[0] ?? 0 } : null;
}

export const glora: Kind<GloraTerm> = {
  factorNames: (term) => [term.a1, term.a2, term.b1, term.b2],

  check(term, shapeOf, view) {
    const shapes = { a1: shapeOf(term.a1), a2: shapeOf(term.a2), b1: shapeOf(term.b1), b2: shapeOf(term.b2) };
    const { a1, a2, b1, b2 } = shapes;
    if ([a1, a2, b1, b2, view].some((shape) => shape.length < 2)) return "GLoRA needs factors and a parameter of at least 2 dimensions";
    const found = gloraLayout(shapes, view);
    const working = checkWorkingSize((found?.rank ?? 0) * elements(view.slice(2)) * (view[0] ?? 0));
    if (working !== null) return working;
    const text = `a1 ${shown(a1)}, a2 ${shown(a2)}, b1 ${shown(b1)}, b2 ${shown(b2)}`;
    if (!found) return `${text} fit neither GLoRA layout`;
    if (found.layout === "old") {
      const cols = columns(view);
      const fits = columns(a2) === a1[0] && a2[0] === cols && columns(a1) === cols;
      return fits ? checkCount(b2[0] ?? 0, columns(b1), view) : `${text} do not fit the parameter's shape ${shown(view)}`;
    }
    const fits = a1[0] === view[1] && columns(a1) === a2[0] && columns(a2) === view[1] && columns(b1) === b2[0];
    return fits ? checkCount(b1[0] ?? 0, columns(b2), view) : `${text} do not fit the parameter's shape ${shown(view)}`;
  },

  async change(term, view, context) {
    const { factors } = context;
    const four = { a1: await factors(term.a1), a2: await factors(term.a2), b1: await factors(term.b1), b2: await factors(term.b2) };
    const found = gloraLayout({ a1: four.a1.shape, a2: four.a2.shape, b1: four.b1.shape, b2: four.b2.shape }, view.shape);
    const change = found?.layout === "old" ? oldChange : newChange;
    return { values: await change(view, four, context), scale: term.scale };
  },
};

/** flat(b2) flat(b1) + flat(T) a2 a1. */
async function oldChange(view: View, { a1, a2, b1, b2 }: Four<F32Tensor>, { kernels }: KindContext): Promise<Float32Array> {
  const values = await product(kernels, b2, b1);
  const rows = view.shape[0] ?? 1;
  const rank = columns(a2.shape);
  const narrow = new Float32Array(rows * rank);
  await kernels.matmul(view.data, a2.data, rows, columns(view.shape), rank, narrow, 1, false);
  await kernels.matmul(narrow, a1.data, rows, rank, columns(a1.shape), values, 1, true);
  return values;
}

/** b1 flat(b2) + sum over in-channels of T a1 a2. For kernels wider than 1 the channels are brought last and back. */
async function newChange(view: View, { a1, a2, b1, b2 }: Four<F32Tensor>, { kernels }: KindContext): Promise<Float32Array> {
  const values = await product(kernels, b1, b2);
  const [outputs = 1, inputs = 1, ...kernel] = view.shape;
  const size = elements(kernel);
  const rank = columns(a1.shape);
  const rows = outputs * size;
  const flat = size === 1 ? view.data : channelsLast(view.data, outputs, inputs, size);
  const narrow = new Float32Array(rows * rank);
  await kernels.matmul(flat, a1.data, rows, inputs, rank, narrow, 1, false);
  if (size === 1) {
    await kernels.matmul(narrow, a2.data, rows, rank, inputs, values, 1, true);
    return values;
  }
  const wide = new Float32Array(rows * inputs);
  await kernels.matmul(narrow, a2.data, rows, rank, inputs, wide, 1, false);
  const back = channelsLast(wide, outputs, size, inputs);
  for (let index = 0; index < values.length; index += 1) values[index] = (values[index] ?? 0) + (back[index] ?? 0);
  return values;
}

/** [o, a, b] → [o, b, a]. */
function channelsLast(data: Float32Array, o: number, a: number, b: number): Float32Array {
  const out = new Float32Array(data.length);
  for (let block = 0; block < o; block += 1) {
    const start = block * a * b;
    for (let x = 0; x < a; x += 1) for (let y = 0; y < b; y += 1) out[start + y * a + x] = data[start + x * b + y] ?? 0;
  }
  return out;
}

/** Source: ComfyUI `weight_adapter/glora.py`, `load`. */
export const recogniseGlora: Recogniser = (tensors, context) => {
  if (!tensors.has(".a1.weight")) return [];
  return [
    reading(tensors, kindSuffixes.glora, [], () => {
      const [a1, a2, b1, b2] = kindSuffixes.glora;
      const shapes = { a1: tensors.shape(a1), a2: tensors.shape(a2), b1: tensors.shape(b1), b2: tensors.shape(b2) };
      const found = gloraLayout(shapes, context.view ?? []);
      if (!found || found.rank === 0)
        return `a1 ${shown(shapes.a1)}, a2 ${shown(shapes.a2)}, b1 ${shown(shapes.b1)}, b2 ${shown(shapes.b2)} fit neither GLoRA layout`;
      return {
        kind: "glora",
        scale: scaleFor(context, found.rank),
        a1: tensors.factor(a1),
        a2: tensors.factor(a2),
        b1: tensors.factor(b1),
        b2: tensors.factor(b2),
      };
    }),
  ];
};

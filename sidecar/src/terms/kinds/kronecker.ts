// LoKr: Kronecker product of two matrices, each whole or factored.

import type { Term } from "../types.ts";
import { checkCount, columns, elements, shown, type F32Tensor, type Kind, type KindContext, type Shape } from "./kind.ts";
import { checkTucker, product, tuckerProduct } from "./tensor-math.ts";
import { kindSuffixes } from "../names/suffixes.ts";
import { reading, scaleFor, type RecogniseContext, type Recogniser } from "./recognise.ts";

type KroneckerTerm = Extract<Term, { kind: "kronecker" }>;

export const kronecker: Kind<KroneckerTerm> = {
  factorNames: (term) => [term.w1, term.w1a, term.w1b, term.w2, term.w2a, term.w2b, term.t2].filter((name) => name !== undefined),

  check(term, shapeOf, view) {
    const w1 = sideShape(term.w1, term.w1a, term.w1b, undefined, shapeOf);
    const w2 = sideShape(term.w2, term.w2a, term.w2b, term.t2, shapeOf);
    if (typeof w1 === "string") return w1;
    if (typeof w2 === "string") return w2;
    if (elements(w1) * elements(w2) === elements(view)) return null;
    return checkCount((w1[0] ?? 0) * (w2[0] ?? 0), columns(w1) * columns(w2), view);
  },

  async change(term, _view, context) {
    const w1 = await side(term.w1, term.w1a, term.w1b, undefined, context);
    const w2 = await side(term.w2, term.w2a, term.w2b, term.t2, context);
    return { values: kroneckerProduct(withKernel(w1, w2.shape), w2), scale: term.scale };
  },
};

type Name = string | undefined;

function sideShape(whole: Name, a: Name, b: Name, core: Name, shapeOf: (name: string) => Shape): Shape | string {
  if (whole !== undefined) return shapeOf(whole);
  if (a === undefined || b === undefined) return "a Kronecker side needs the whole matrix or both of its factors";
  const [wa, wb] = [shapeOf(a), shapeOf(b)];
  if (core !== undefined) return checkTucker(shapeOf(core), wa, wb) ?? [wa[1] ?? 0, wb[1] ?? 0, ...shapeOf(core).slice(2)];
  if (wa.length !== 2 || wb.length !== 2 || wa[1] !== wb[0]) return `the factors ${shown(wa)} and ${shown(wb)} cannot be multiplied`;
  return [wa[0] ?? 0, wb[1] ?? 0];
}

async function side(whole: Name, a: Name, b: Name, core: Name, context: KindContext): Promise<F32Tensor> {
  if (whole !== undefined) return context.factors(whole);
  const wa = await context.factors(a ?? "");
  const wb = await context.factors(b ?? "");
  if (core !== undefined) return tuckerProduct(context.kernels, await context.factors(core), wa, wb);
  return { shape: [wa.shape[0] ?? 0, wb.shape[1] ?? 0], data: await product(context.kernels, wa, wb) };
}

/** A 2-D w1 beside a 4-D (convolution) w2 acts on channels only. */
function withKernel(w1: F32Tensor, w2: Shape): F32Tensor {
  return w2.length === 4 && w1.shape.length === 2 ? { shape: [...w1.shape, 1, 1], data: w1.data } : w1;
}

/** torch.kron: shapes are aligned at the right, dimension by dimension out = a * b. */
function kroneckerProduct(a: F32Tensor, b: F32Tensor): Float32Array {
  const rank = Math.max(a.shape.length, b.shape.length);
  const grow = (shape: Shape): number[] => [...new Array<number>(rank - shape.length).fill(1), ...shape];
  const [aDims, bDims] = [grow(a.shape), grow(b.shape)];
  const strides = new Array<number>(rank).fill(1);
  for (let dim = rank - 2; dim >= 0; dim -= 1) strides[dim] = (strides[dim + 1] ?? 1) * (aDims[dim + 1] ?? 1) * (bDims[dim + 1] ?? 1);
  const offsets = (dims: readonly number[], step: (dim: number) => number): Int32Array => {
    const out = new Int32Array(elements(dims));
    for (let index = 0; index < out.length; index += 1) {
      let rest = index;
      let offset = 0;
      for (let dim = rank - 1; dim >= 0; dim -= 1) {
        const size = dims[dim] ?? 1;
        offset += (rest % size) * step(dim);
        rest = Math.floor(rest / size);
      }
      out[index] = offset;
    }
    return out;
  };
  const aOffsets = offsets(aDims, (dim) => (strides[dim] ?? 1) * (bDims[dim] ?? 1));
  const bOffsets = offsets(bDims, (dim) => strides[dim] ?? 1);
  const out = new Float32Array(a.data.length * b.data.length);
  for (let i = 0; i < aOffsets.length; i += 1) {
    const factor = a.data[i] ?? 0;
    const start = aOffsets[i] ?? 0;
    for (let j = 0; j < bOffsets.length; j += 1) out[start + (bOffsets[j] ?? 0)] = factor * (b.data[j] ?? 0);
  }
  return out;
}

/** Sizes of a LoKr with a core (`lokr_t2`): its two ranks, rows and columns of the first side and of the second, and the kernel's sides. */
export type CoreSizes = Readonly<Record<"ranks" | "first" | "second" | "kernel", readonly [number, number]>>;

/**
 * Whether ComfyUI can evaluate a LoKr with a core. torch.kron views a product whose memory lies in the core's order, which works for some sizes of one alone; otherwise ComfyUI keeps the weight.
 * Source: torch 2.13 on all 256 cases of one and more in these eight sizes.
 */
export function torchCanView({ ranks, first, second, kernel }: CoreSizes): boolean {
  const [i, j, a, b, p, q, k, l] = [...ranks, ...first, ...second, ...kernel].map((size) => size > 1);
  const rows = a && p && (q || ((i || j) && (k || l)));
  const columns = b && q && ((p && (i || l)) || (!i && j && (k || l)));
  return !(rows || columns);
}

function viewable(tensors: Parameters<Recogniser>[0], left: readonly string[], right: readonly string[]): boolean {
  const [shape, last] = [(suffix: string | undefined) => tensors.shape(suffix ?? ""), right[1]];
  const [i = 1, j = 1, k = 1, l = 1] = shape(".lokr_t2");
  const [a = 1] = shape(left[0]);
  return torchCanView({
    ranks: [i, j],
    first: [a, shape(left.at(-1))[1] ?? 1],
    second: [shape(right[0])[1] ?? 1, shape(last)[1] ?? 1],
    kernel: [k, l],
  });
}

/** Source: ComfyUI `weight_adapter/lokr.py`, `load`. alpha counts only when a side is factored; the second side's rank goes first. */
export const recogniseLokr: Recogniser = (tensors, context) => {
  if (![".lokr_w1", ".lokr_w2", ".lokr_w1_a", ".lokr_w2_a"].some((suffix) => tensors.has(suffix))) return [];
  const left = tensors.has(".lokr_w1") ? [".lokr_w1"] : [".lokr_w1_a", ".lokr_w1_b"];
  const right = tensors.has(".lokr_w2") ? [".lokr_w2"] : [".lokr_w2_a", ".lokr_w2_b"];
  const core = right.length === 2 && tensors.has(".lokr_t2");
  return [
    reading(
      tensors,
      [...left, ...right],
      kindSuffixes.lokr.filter((suffix) => !left.includes(suffix) && !right.includes(suffix)),
      () => {
        if (core && context.mode === "comfyui" && !viewable(tensors, left, right))
          return "ComfyUI cannot evaluate a LoKr with lokr_t2 and keeps the weight; extended mode merges it";
        const factored = right.length === 2 ? tensors.shape(".lokr_w2_b")[0] : left.length === 2 ? tensors.shape(".lokr_w1_b")[0] : null;
        if (factored === 0) return "the rank is 0";
        return {
          kind: "kronecker",
          scale: typeof factored === "number" ? scaleFor(context, factored) : 1,
          ...(left.length === 1
            ? { w1: tensors.factor(".lokr_w1") }
            : { w1a: tensors.factor(".lokr_w1_a"), w1b: tensors.factor(".lokr_w1_b") }),
          ...(right.length === 1
            ? { w2: tensors.factor(".lokr_w2", kernelShape(tensors.shape(".lokr_w2"), context)) }
            : { w2a: tensors.factor(".lokr_w2_a"), w2b: tensors.factor(".lokr_w2_b") }),
          ...(core ? { t2: tensors.factor(".lokr_t2") } : {}),
        };
      },
    ),
  ];
};

/** ComfyUI lets w1 act on channels only beside a 4-D w2. Extended mode reads 1-D and 3-D convolutions as 4-D, so that they do the same. */
function kernelShape(shape: Shape, context: RecogniseContext): Shape {
  const convolution = shape.length === 3 || shape.length === 5;
  return context.mode === "extended" && convolution ? [...shape.slice(0, 2), elements(shape.slice(2)), 1] : shape;
}

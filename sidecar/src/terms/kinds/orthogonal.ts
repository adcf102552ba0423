// OFT and BOFT: rows of the weight as patched so far are rotated in blocks.

import type { Term } from "../types.ts";
import { columns, shown, type F32Tensor, type Kind, type KindContext, type View } from "./kind.ts";
import { cayleyRotations } from "./rotation.ts";
import { broadcastIndex, transposed } from "./tensor-math.ts";
import { reading, type Recogniser } from "./recognise.ts";

type OrthogonalTerm = Extract<Term, { kind: "orthogonal" }>;

export const orthogonal: Kind<OrthogonalTerm> = {
  factorNames: (term) => [term.blocks, ...(term.rescale === undefined ? [] : [term.rescale])],

  check(term, shapeOf, view) {
    const shape = shapeOf(term.blocks);
    const rank = term.variant === "oft" ? 3 : 4;
    const [count = 0, size = 0, width = 0] = shape.slice(-3);
    if (shape.length !== rank || size !== width)
      return `oft_blocks have the shape ${shown(shape)}, expected ${rank} dimensions with square blocks`;
    if (count * size !== view[0]) return `${count} blocks of ${size} rows do not cover the parameter's ${view[0] ?? 0} rows`;
    if (term.variant === "boft") {
      if (size % 2 !== 0) return `butterfly blocks have an odd size ${size}`;
      for (let stage = 0; stage < (shape[0] ?? 0); stage += 1) {
        if ((view[0] ?? 0) % (2 ** stage * size) !== 0)
          return `stage ${stage} pairs rows in groups of ${2 ** stage * size}, which ${view[0] ?? 0} rows do not divide into`;
      }
    }
    if (term.rescale !== undefined && !broadcastIndex(shapeOf(term.rescale), view))
      return `rescale ${shown(shapeOf(term.rescale))} does not fit the parameter's shape ${shown(view)}`;
    return null;
  },

  async change(term, view, context) {
    const blocks = await context.factors(term.blocks);
    const rotations = await cayleyRotations(blocks, term.constraint, context.kernels);
    // With DoRA the constraint stands in for the scale (0 when absent): ComfyUI hands its alpha to the common tail.
    const scale = term.doraScale === undefined ? 1 : (term.constraint ?? 0);
    if (term.variant === "oft") return { values: await oftChange(term, view, rotations, blocks, context), scale };
    return { values: await boftChange(term, view, rotations, blocks, context), scale };
  },
};

/** Row block k of the change: g (R_k - I)^T T_k. ComfyUI has g = strength, and the tail multiplies by it again. */
async function oftChange(
  term: OrthogonalTerm,
  view: View,
  rotations: Float32Array,
  blocks: F32Tensor,
  context: KindContext,
): Promise<Float32Array> {
  const [count = 1, size = 1] = blocks.shape;
  const cols = columns(view.shape);
  const factor = term.strengthOnce === true ? 1 : context.strength;
  const values = new Float32Array(view.data.length);
  for (let block = 0; block < count; block += 1) {
    const turned = transposed(rotations.subarray(block * size * size, (block + 1) * size * size), size, size);
    for (let i = 0; i < size; i += 1) turned[i * size + i] = (turned[i * size + i] ?? 0) - 1;
    const [from, to] = [block * size * cols, (block + 1) * size * cols];
    await context.kernels.matmul(turned, view.data.subarray(from, to), size, size, cols, values.subarray(from, to), factor, false);
  }
  if (term.rescale !== undefined) rescaleOutcome(values, view, await context.factors(term.rescale));
  return values;
}

/** Stages t = 0…: rows (g, 2, h) are brought to (g, h, 2), h = 2^t b / 2, rotated in blocks of b, and brought back. */
async function boftChange(
  term: OrthogonalTerm,
  view: View,
  rotations: Float32Array,
  blocks: F32Tensor,
  context: KindContext,
): Promise<Float32Array> {
  const [stages = 1, count = 1, size = 1] = blocks.shape;
  const area = size * size;
  const cols = columns(view.shape);
  const rows = view.shape[0] ?? 1;
  const { strength } = context;
  let current: Float32Array = view.data.slice();
  for (let stage = 0; stage < stages; stage += 1) {
    const half = (2 ** stage * size) / 2;
    const gathered = pairRows(current, rows, cols, half, "interleave");
    const turnedRows = new Float32Array(current.length);
    for (let block = 0; block < count; block += 1) {
      const at = (stage * count + block) * area;
      const turn = rotations.slice(at, at + area);
      // Between no rotation and the whole one: s R + (1 - s) I.
      for (let i = 0; i < area; i += 1) turn[i] = (turn[i] ?? 0) * strength + (i % (size + 1) === 0 ? 1 - strength : 0);
      const [from, to] = [block * size * cols, (block + 1) * size * cols];
      await context.kernels.matmul(turn, gathered.subarray(from, to), size, size, cols, turnedRows.subarray(from, to), 1, false);
    }
    current = pairRows(turnedRows, rows, cols, half, "separate");
  }
  for (let i = 0; i < current.length; i += 1) current[i] = (current[i] ?? 0) - (view.data[i] ?? 0);
  if (term.rescale !== undefined) rescaleOutcome(current, view, await context.factors(term.rescale));
  return current;
}

/** interleave: (g, 2, h) → (g, h, 2); separate: back. */
function pairRows(data: Float32Array, rows: number, cols: number, half: number, direction: "interleave" | "separate"): Float32Array {
  const out = new Float32Array(data.length);
  for (let row = 0; row < rows; row += 1) {
    const group = Math.floor(row / (2 * half));
    const inner = row % (2 * half);
    const paired = group * 2 * half + (inner % half) * 2 + Math.floor(inner / half);
    const [from, to] = direction === "interleave" ? [row, paired] : [paired, row];
    out.set(data.subarray(from * cols, (from + 1) * cols), to * cols);
  }
  return out;
}

/** The change of rescale * (T + change). */
function rescaleOutcome(change: Float32Array, view: View, rescale: F32Tensor): void {
  const index = broadcastIndex(rescale.shape, view.shape);
  if (!index) return;
  for (let i = 0; i < change.length; i += 1) {
    const base = view.data[i] ?? 0;
    change[i] = (rescale.data[index(i)] ?? 0) * (base + (change[i] ?? 0)) - base;
  }
}

/** Source: ComfyUI `weight_adapter/oft.py` and `boft.py`. alpha is the constraint here, not a scale. */
export const recogniseOft: Recogniser = (tensors, context) => {
  const shape = tensors.shape(".oft_blocks");
  const variant = shape.length === 3 ? "oft" : shape.length === 4 ? "boft" : null;
  if (variant === null) return [];
  const rescaled = tensors.has(".rescale");
  const intended = context.mode === "extended";
  const read = reading(tensors, [".oft_blocks"], [".rescale"], () => {
    if (variant === "boft" && context.alpha === null && !intended)
      return "ComfyUI cannot evaluate a BOFT without alpha and keeps the weight; extended mode merges it";
    const useRescale = rescaled && (variant === "boft" || intended);
    return {
      kind: "orthogonal",
      variant,
      blocks: tensors.factor(".oft_blocks"),
      constraint: context.alpha,
      ...(useRescale ? { rescale: tensors.factor(".rescale") } : {}),
      ...(variant === "oft" && intended ? { strengthOnce: true as const } : {}),
    };
  });
  const ignoresRescale = variant === "oft" && rescaled && !intended;
  return [
    ignoresRescale
      ? { ...read, unread: [{ suffix: ".rescale", reason: "ComfyUI reads an OFT's rescale and does not apply it; extended mode does" }] }
      : read,
  ];
};

// Full deltas, replaced values and channel scales: kinds whose factor has the parameter's own shape (or one axis of it).

import type { Term } from "../types.ts";
import { elements, shown, type Kind } from "./kind.ts";
import { broadcastIndex } from "./tensor-math.ts";
import { reading, scaleFor, type Recogniser } from "./recognise.ts";

type DenseTerm = Extract<Term, { kind: "dense" }>;
type SetTerm = Extract<Term, { kind: "set" }>;
type ChannelScaleTerm = Extract<Term, { kind: "channelScale" }>;

/** diff, diff_b, w_norm, b_norm: T += strength * value. */
export const dense: Kind<DenseTerm> = {
  factorNames: (term) => [term.value],
  check(term, shapeOf, view) {
    const shape = shapeOf(term.value);
    return shape.join() === view.join() ? null : `the delta has the shape ${shown(shape)}, the parameter ${shown(view)}`;
  },
  change: async (term, _view, { factors }) => ({ values: (await factors(term.value)).data.slice(), scale: 1 }),
};

/** set_weight: T = value; strength and row order do not matter. */
export const set: Kind<SetTerm> = {
  factorNames: (term) => [term.value],
  check(term, shapeOf, view) {
    const shape = shapeOf(term.value);
    return broadcastIndex(shape, view) ? null : `the value has the shape ${shown(shape)}, the parameter ${shown(view)}`;
  },
  async change(term, view, { factors }) {
    const { shape, data } = await factors(term.value);
    const index = broadcastIndex(shape, view.shape);
    if (shape.join() === view.shape.join()) view.data.set(data);
    else if (index) for (let i = 0; i < view.data.length; i += 1) view.data[i] = data[index(i)] ?? 0;
    return null;
  },
};

/** IA3 (extended mode): T += strength * T * value, value per row or per column (dimension 1). */
export const channelScale: Kind<ChannelScaleTerm> = {
  factorNames: (term) => [term.value],
  check(term, shapeOf, view) {
    const count = elements(shapeOf(term.value));
    const expected = view[term.axis === "rows" ? 0 : 1];
    return count === expected
      ? null
      : `the scale has ${count} values, the parameter's ${term.axis} are ${expected ?? "missing"} (shape ${shown(view)})`;
  },
  async change(term, view, { factors }) {
    const { data } = await factors(term.value);
    const inner = elements(view.shape.slice(term.axis === "rows" ? 1 : 2));
    const values = new Float32Array(view.data.length);
    for (let i = 0; i < values.length; i += 1) values[i] = (view.data[i] ?? 0) * (data[Math.floor(i / inner) % data.length] ?? 0);
    return { values, scale: 1 };
  },
};

const denseOn =
  (on: "weight" | "bias", suffix: string): Recogniser =>
  (tensors) =>
    tensors.has(suffix) ? [{ used: [suffix], on, outcome: { body: { kind: "dense", value: tensors.factor(suffix) } } }] : [];

export const recogniseDiff = denseOn("weight", ".diff");
export const recogniseBiasDiff = denseOn("bias", ".diff_b");
const weightNorm = denseOn("weight", ".w_norm");
const biasNorm = denseOn("bias", ".b_norm");

/** ComfyUI reads b_norm only beside w_norm. */
export const recogniseNorm: Recogniser = (tensors, context) =>
  tensors.has(".w_norm") ? [...weightNorm(tensors, context), ...biasNorm(tensors, context)] : [];

export const recogniseSet: Recogniser = (tensors) =>
  tensors.has(".set_weight")
    ? [{ used: [".set_weight"], on: "weight", outcome: { body: { kind: "set", value: tensors.factor(".set_weight") } } }]
    : [];

/** PEFT's `lora_bias` (extended mode): the bias of B, scaled as the pair is. A scale other than 1 has no term of its own, so it is named and left out. */
export const recogniseLoraBias: Recogniser = (tensors, context) => {
  const suffix = ".lora_B.bias";
  if (context.mode !== "extended" || !tensors.has(suffix)) return [];
  const rank = tensors.shape(".lora_A.weight")[0] ?? 0;
  const scale = rank === 0 ? 1 : scaleFor(context, rank);
  if (scale !== 1)
    return [
      {
        used: [suffix],
        on: "bias",
        outcome: { problem: `a bias of lora_B at alpha / rank = ${scale}: only biases at 1 can be merged`, holdsTarget: false },
      },
    ];
  return [{ used: [suffix], on: "bias", outcome: { body: { kind: "dense", value: tensors.factor(suffix) } } }];
};

/** LyCORIS IA3; ComfyUI has none. `on_input` tells columns from rows. */
export const recogniseIa3: Recogniser = (tensors, context) => {
  const onInput = tensors.numbers(".on_input");
  if (context.mode !== "extended" || onInput === undefined) return [];
  return [
    reading(tensors, [".weight", ".on_input"], [], () => ({
      kind: "channelScale",
      value: tensors.factor(".weight"),
      axis: onInput[0] === 0 ? "rows" : "columns",
    })),
  ];
};

// One module of the file → readings with their terms' factors registered.

import { elements, recognisers, type FactorName, type MergeMode, type ModuleTensors, type Reading, type Shape } from "../../terms/index.ts";
import type { ModeNotes } from "./mode-notes.ts";
import type { MetadataScales } from "./peft-metadata.ts";
import type { AdapterTensor } from "./tensors.ts";

/** A factor that a term refers to: tensor of the file, possibly read in another shape of equal size. */
export interface PendingFactor {
  readonly tensor: AdapterTensor;
  readonly shape: Shape;
}

/** Of one length, so that the order of names is the order in the adapter's key map. */
export const factorName = (index: number): FactorName => `f${String(index).padStart(6, "0")}`;

/** Gives factors their names in the delta file. The same tensor in the same shape is one factor. */
export class FactorTable {
  readonly factors = new Map<FactorName, PendingFactor>();
  readonly #names = new Map<string, FactorName>();

  add(tensor: AdapterTensor, shape: Shape): FactorName {
    const identity = `${tensor.key ?? ""}\n${shape.join()}`;
    const known = this.#names.get(identity);
    if (known !== undefined) return known;
    const name = factorName(this.factors.size);
    this.#names.set(identity, name);
    this.factors.set(name, { tensor, shape });
    return name;
  }
}

export interface ModuleReadings {
  readonly readings: readonly Reading[];
  /** alpha and DoRA magnitude: shared by all kinds of the module. */
  readonly shared: readonly string[];
  readonly dora: { readonly factor: FactorName; readonly norm: "merged" | null } | null;
  /** Why the module as a whole cannot be read (a malformed alpha). */
  readonly problem: string | null;
}

export interface ModuleContext {
  readonly mode: MergeMode;
  readonly module: string;
  /** Shape of what the term would act on; null when the checkpoint lacks it. */
  readonly view: Shape | null;
  readonly scales: MetadataScales;
  readonly notes: ModeNotes;
}

export function readModule(tensors: ReadonlyMap<string, AdapterTensor>, factors: FactorTable, context: ModuleContext): ModuleReadings {
  const shared = [".alpha", ".dora_scale"].filter((suffix) => tensors.has(suffix));
  const alpha = tensors.get(".alpha")?.numbers;
  // Beyond f32 the scale would turn every value into Inf or NaN.
  if (alpha !== undefined && (alpha.length !== 1 || !Number.isFinite(Math.fround(alpha[0] ?? 0)))) {
    const problem = alpha.length === 1 ? "alpha is not a finite number" : `alpha has ${alpha.length} values, expected 1`;
    return { readings: [], shared, dora: null, problem };
  }
  const view: ModuleTensors = {
    has: (suffix) => tensors.has(suffix),
    shape: (suffix) => tensors.get(suffix)?.shape ?? [],
    numbers: (suffix) => tensors.get(suffix)?.numbers,
    factor: (suffix, shape) => {
      const tensor = tensors.get(suffix);
      if (!tensor) throw new TypeError(`recogniser asked for ${suffix}, which the module lacks`);
      return factors.add(tensor, shape ?? tensor.shape);
    },
  };
  const dora = magnitude(tensors, factors, context);
  const readings = recognisers.flatMap((recognise) =>
    recognise(view, {
      mode: context.mode,
      alpha: alpha?.[0] ?? null,
      metadataScale: (rank) => metadataScale(context, rank),
      view: context.view,
    }),
  );
  const peft = dora !== null && dora.norm === "merged" && !tensors.has(".dora_scale") ? [".lora_magnitude_vector"] : [];
  return { readings, shared: [...shared, ...peft], dora, problem: null };
}

function metadataScale({ mode, module, scales, notes }: ModuleContext, rank: number): number | null {
  const wanted = scales(module, rank);
  if (mode === "extended" || wanted === null) return wanted;
  notes.scale(wanted);
  return null;
}

/** One magnitude a row as a flat list, for a parameter of several dimensions. */
function isFlat(magnitude: AdapterTensor, view: Shape | null): view is Shape {
  return magnitude.shape.length === 1 && view !== null && view.length > 1 && magnitude.shape[0] === view[0];
}

/** PEFT keeps one magnitude per output as [o], convolutions as [1, o, 1, 1]; here it is [o, 1, …] like everywhere else. */
function magnitude(
  tensors: ReadonlyMap<string, AdapterTensor>,
  factors: FactorTable,
  { mode, view, notes }: ModuleContext,
): ModuleReadings["dora"] {
  const own = tensors.get(".dora_scale");
  if (own && mode === "extended" && isFlat(own, view))
    return { factor: factors.add(own, [...own.shape, ...view.slice(1).map(() => 1)]), norm: "merged" };
  if (own && isFlat(own, view)) notes.flatMagnitude();
  if (own) return { factor: factors.add(own, own.shape), norm: null };
  const peft = tensors.get(".lora_magnitude_vector");
  if (!peft || mode !== "extended" || !view) return null;
  const count = elements(peft.shape);
  const shape = count === view[0] ? [count, ...view.slice(1).map(() => 1)] : peft.shape;
  return { factor: factors.add(peft, shape), norm: "merged" };
}

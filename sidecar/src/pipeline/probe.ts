// Inputs for a step that nobody asked for: the first step of a session pays for memory and code paths that all later ones reuse.

import type { FrameTensor } from "@refit-sidecar/protocol";
import type { EngineSpec } from "../refit/index.ts";
import type { Port } from "./graphs.ts";
import { floatDtype } from "./views.ts";

/** Shapes of a step's inputs by name. */
export type StepShapes = Readonly<Record<string, readonly number[]>>;

/** Small, and fit for every UNet of the families: sides are multiples of 8, as three halvings need. */
const smallest: Readonly<Record<string, number>> = { batch: 1, height: 16, width: 16, tokens: 77 };

const portBytes: Readonly<Record<string, number>> = { f32: 4, f16: 2, bf16: 2, i64: 8 };

/** Zeros for every input of the graph: in the sizes of the last real step when there are some, else in the smallest. */
export function probeInputs(ports: readonly Port[], precision: EngineSpec["precision"], last: StepShapes | null): FrameTensor[] {
  return ports.map(({ name, dtype, shape }) => {
    const own = dtype === "float" ? floatDtype[precision] : dtype === "i64" || dtype === "f16" || dtype === "bf16" ? dtype : "f32";
    const known = last?.[name];
    const fits = known !== undefined && known.length === shape.length && shape.every((dimension, index) => typeof dimension === "string" || dimension === known[index]);
    const sizes = fits ? known : shape.map((dimension) => (typeof dimension === "string" ? (smallest[dimension] ?? 1) : dimension));
    const count = sizes.reduce((product, size) => product * size, 1);
    return { name, dtype: own, shape: [...sizes], data: new Uint8Array(count * (portBytes[own] ?? 4)) };
  });
}

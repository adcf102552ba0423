// Factors as f32, converted once.

import type { Kernels } from "@refit-sidecar/native";
import { Failure } from "../../failure/index.ts";
import { elements, type F32Tensor, type FactorReader } from "../kinds/kind.ts";
import type { Factor, FactorName } from "../types.ts";
import { asBytes } from "./round.ts";

/**
 * A reader that converts each factor on first use and keeps it: memory grows to the f32 size of the factors asked for, so make one per merge
 * of a parameter, or one per delta where the factors are to stay. Throws Failure TERMS_FACTOR_DTYPE for integers.
 */
export function f32Factors(read: (name: FactorName) => Promise<Factor>, kernels: Kernels): FactorReader {
  const known = new Map<FactorName, Promise<F32Tensor>>();
  return (name) => {
    const found = known.get(name);
    if (found) return found;
    const made = read(name).then((factor) => toF32(name, factor, kernels));
    known.set(name, made);
    // A failed read is not kept: the caller may retry with a rebuilt delta.
    made.catch(() => known.delete(name));
    return made;
  };
}

async function toF32(name: FactorName, factor: Factor, kernels: Kernels): Promise<F32Tensor> {
  const { dtype, shape, data } = factor;
  if (dtype === "I64" || dtype === "I32" || dtype === "U8") {
    throw new Failure(
      "TERMS_FACTOR_DTYPE",
      `expected the factor ${name} in a floating-point type, it is ${dtype}; the delta is damaged or from another version, rebuild it`,
      { factor: name, dtype },
    );
  }
  const out = new Float32Array(elements(shape));
  await kernels.convert(data, dtype, asBytes(out), "F32", out.length);
  return { shape, data: out };
}

import type { WeightDtype } from "@refit-sidecar/protocol";
import { hostFailure } from "./host-failure.ts";
import type { ParameterLayout } from "./refit-map.ts";

/** What this host holds: ONNX Runtime gets no quantised weights from it. */
export type HeldDtype = Exclude<WeightDtype, "fp8" | "int8" | "nvfp4">;

export const elementBytes: Readonly<Record<HeldDtype, number>> = { f32: 4, f16: 2, bf16: 2 };

/** Throws HOST_PRECISION_UNSUPPORTED. */
export function heldDtype(dtype: WeightDtype): HeldDtype {
  if (dtype !== "fp8" && dtype !== "int8" && dtype !== "nvfp4") return dtype;
  throw hostFailure("HOST_PRECISION_UNSUPPORTED", `this host holds no ${dtype} weights; the torch host does`, { weightDtype: dtype });
}

/** What the weights of one engine are, without their values. */
export class WeightTable {
  readonly dtype: HeldDtype;
  readonly layouts: ReadonlyMap<string, ParameterLayout>;
  /** Of all parameters. */
  readonly bytes: number;

  constructor(dtype: HeldDtype, layouts: readonly ParameterLayout[]) {
    this.dtype = dtype;
    this.layouts = new Map(layouts.map((layout) => [layout.name, layout]));
    this.bytes = layouts.reduce((sum, layout) => sum + this.sizeOf(layout), 0);
  }

  sizeOf(layout: ParameterLayout): number {
    return layout.elements * elementBytes[this.dtype];
  }

  /** Bytes of some parameters. Throws HOST_PARAMETER_UNKNOWN. */
  sizeOfAll(parameters: readonly string[]): number {
    return parameters.reduce((sum, parameter) => sum + this.sizeOf(this.layout(parameter)), 0);
  }

  /** Throws HOST_PARAMETER_UNKNOWN. */
  layout(parameter: string): ParameterLayout {
    const layout = this.layouts.get(parameter);
    if (layout !== undefined) return layout;
    throw hostFailure(
      "HOST_PARAMETER_UNKNOWN",
      `expected a parameter of this engine, got ${parameter}; the plan, adapter or checkpoint belongs to another structure`,
      { parameter },
    );
  }
}

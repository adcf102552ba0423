import { createHash } from "node:crypto";
import type { WeightDtype } from "@refit-sidecar/protocol";
import { hostFailure } from "./host-failure.ts";
import { exchangeHalves, type ParameterLayout } from "./refit-map.ts";

export const elementBytes: Readonly<Record<WeightDtype, number>> = { f32: 4, f16: 2, bf16: 2 };

/** The live weights of one engine: one buffer per parameter in engine layout. The only place that a step reads from. */
export class WeightStore {
  readonly dtype: WeightDtype;
  readonly layouts: ReadonlyMap<string, ParameterLayout>;
  readonly #buffers = new Map<string, Uint8Array>();

  constructor(dtype: WeightDtype, layouts: readonly ParameterLayout[]) {
    this.dtype = dtype;
    this.layouts = new Map(layouts.map((layout) => [layout.name, layout]));
  }

  get bytes(): number {
    let sum = 0;
    for (const layout of this.layouts.values()) sum += this.sizeOf(layout);
    return sum;
  }

  sizeOf(layout: ParameterLayout): number {
    return layout.elements * elementBytes[this.dtype];
  }

  layout(parameter: string): ParameterLayout {
    const layout = this.layouts.get(parameter);
    if (layout !== undefined) return layout;
    throw hostFailure("HOST_PARAMETER_UNKNOWN", `expected a parameter of this engine, got ${parameter}; the plan, adapter or checkpoint belongs to another structure`, { parameter });
  }

  buffer(parameter: string): Uint8Array {
    const buffer = this.#buffers.get(parameter);
    if (buffer === undefined) throw new TypeError(`parameter ${parameter} has no weights yet`);
    return buffer;
  }

  /** Puts a finished buffer (engine layout) in place and returns the one that it replaces. */
  swap(parameter: string, buffer: Uint8Array): Uint8Array | undefined {
    const old = this.#buffers.get(parameter);
    this.#buffers.set(parameter, buffer);
    return old;
  }

  /** A copy in canonical layout. */
  canonical(parameter: string): Uint8Array {
    const layout = this.layout(parameter);
    const copy = this.buffer(parameter).slice();
    exchangeHalves(layout, copy, elementBytes[this.dtype]);
    return copy;
  }

  checksum(parameter: string): string {
    return sha256(this.layout(parameter), this.buffer(parameter), elementBytes[this.dtype]);
  }
}

/** SHA-256 of a buffer in engine layout as if it were in canonical layout. */
export function sha256(layout: ParameterLayout, buffer: Uint8Array, bytesPerElement: number): string {
  if (!layout.weights.some((view) => view.swapHalves)) return createHash("sha256").update(buffer).digest("hex");
  const copy = buffer.slice();
  exchangeHalves(layout, copy, bytesPerElement);
  return createHash("sha256").update(copy).digest("hex");
}

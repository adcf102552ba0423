// The implementations under test: the TypeScript fallback always, the addon unless REFIT_NATIVE=off forbids it.
import { native, type Kernels, type Native } from "../../native/ts/index.ts";
import { loadNative } from "../../native/ts/load.ts";

const fallback = loadNative({ REFIT_NATIVE: "off" });

/** [name, implementation] rows for `describe.each`. */
export const implementations: readonly (readonly [string, Native])[] =
  process.env["REFIT_NATIVE"] === "off"
    ? [["fallback", fallback]]
    : [
        ["fallback", fallback],
        [native.kind, native],
      ];

export const kernelPair: { readonly fallback: Kernels; readonly chosen: Kernels } = { fallback, chosen: native };

/** Small deterministic generator (mulberry32), uniform in [0, 1). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function bytesOf(values: ArrayBufferView): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

// The raw addon's shape, declared once; nothing outside this folder touches it. The C++ side is src/bind/addon.cpp.

import type { Dtype, FloatDtype } from "../api.ts";

/** Positions are the addon's: FloatDtype in src/math/dtype.h, containerDtypes in src/container/header.h. */
export const floatDtypes = ["F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2"] as const satisfies readonly FloatDtype[];
export const containerDtypes = [
  "BOOL",
  "U8",
  "I8",
  "I16",
  "U16",
  "I32",
  "U32",
  "I64",
  "U64",
  "F16",
  "BF16",
  "F32",
  "F64",
  "F8_E4M3",
  "F8_E5M2",
  "F8_E8M0",
  "F8_E4M3FNUZ",
  "F8_E5M2FNUZ",
  "F6_E2M3",
  "F6_E3M2",
  "F4",
  "C64",
] as const satisfies readonly Dtype[];

/** Raised together with src/bind/addon.cpp when the surface changes, so that a stale build is not called wrongly. */
export const bindingVersion = 5;

declare const cancelToken: unique symbol;
export interface CancelToken {
  readonly [cancelToken]: true;
}

export interface RawHeader {
  /** All names in header order, one after the other. */
  readonly names: string;
  /** Where each name ends in `names`. */
  readonly nameEnds: Uint32Array;
  /** Positions in containerDtypes. */
  readonly dtypes: Uint8Array;
  /** Where each tensor's numbers start. */
  readonly numberStarts: Uint32Array;
  /** begin, end, rank, then rank dimensions, of each tensor in turn. */
  readonly numbers: Float64Array;
  /** key, value, key, value, … */
  readonly metadata: readonly string[];
}

export interface RawFault {
  readonly code: string;
  readonly problem: string;
  readonly tensor: string | null;
}

export interface RawAddon {
  readonly version: number;
  readonly simd: string;
  readonly threads: number;
  createCancel(): CancelToken;
  cancel(token: CancelToken): void;
  parseHeader(header: Uint8Array, dataBytes: number): Promise<RawHeader | RawFault>;
  /** On the calling thread. */
  parseHeaderSync(header: Uint8Array, dataBytes: number): RawHeader | RawFault;
  /** The kernels do small work at once, on the calling thread, and answer its value; larger work goes to the thread pool and they answer a promise. False when cancelled. */
  mergeLowRank(
    base: Uint8Array,
    baseDtype: number,
    baseScale: number,
    out: Uint8Array,
    outDtype: number,
    rows: number,
    cols: number,
    ups: readonly Float32Array[],
    downs: readonly Float32Array[],
    ranks: readonly number[],
    scales: readonly number[],
    token: CancelToken | null,
    loss: Float64Array | null,
  ): boolean | Promise<boolean>;
  lossOf(
    before: Float32Array | null,
    change: Float32Array,
    after: Float32Array,
    error: Float32Array | null,
    count: number,
    sums: Float64Array,
  ): void | Promise<void>;
  matmul(
    a: Float32Array,
    b: Float32Array,
    m: number,
    k: number,
    n: number,
    out: Float32Array,
    scale: number,
    accumulate: boolean,
  ): void | Promise<void>;
  convert(source: Uint8Array, from: number, target: Uint8Array, to: number, count: number, scale: number): void | Promise<void>;
  firstNonFinite(source: Uint8Array, dtype: number, count: number): number | Promise<number>;
}

const functions = [
  "createCancel",
  "cancel",
  "parseHeader",
  "parseHeaderSync",
  "mergeLowRank",
  "lossOf",
  "matmul",
  "convert",
  "firstNonFinite",
] as const;

/** The only way from an unknown module to a RawAddon. Throws when it is another build than these sources. */
export function checkAddon(module: unknown): RawAddon {
  const candidate = (typeof module === "object" && module !== null ? module : {}) as Record<string, unknown>;
  if (candidate["version"] !== bindingVersion)
    throw new Error(`expected version ${bindingVersion} of the addon, found ${String(candidate["version"])}; run \`npm run build\``);
  for (const name of functions) {
    if (typeof candidate[name] !== "function") throw new Error(`the addon lacks ${name}; run \`npm run build\``);
  }
  return module as RawAddon;
}

export function floatDtypeIndex(dtype: FloatDtype): number {
  return floatDtypes.indexOf(dtype);
}

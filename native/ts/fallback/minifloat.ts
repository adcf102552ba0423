// Small float formats by rule rather than by table of cases: one decoder and one encoder, told apart by three numbers. The C++ side has the same rows.

export interface Minifloat {
  readonly mantissaBits: number;
  readonly exponentBias: number;
  readonly signShift: number;
  /** Code (without sign) of the largest finite value. */
  readonly maxFinite: number;
  /** Code of +Inf; null for e4m3fn, which has none. */
  readonly infinity: number | null;
  readonly nan: number;
  /** Overflow and infinities become the largest finite value. */
  readonly saturates: boolean;
}

/** IEEE binary16. */
export const f16: Minifloat = {
  mantissaBits: 10,
  exponentBias: 15,
  signShift: 15,
  maxFinite: 0x7bff,
  infinity: 0x7c00,
  nan: 0x7e00,
  saturates: false,
};
/** OCP FP8 E4M3 as in `float8_e4m3fn`: no infinity, one NaN code per sign, largest 448. */
export const e4m3: Minifloat = {
  mantissaBits: 3,
  exponentBias: 7,
  signShift: 7,
  maxFinite: 0x7e,
  infinity: null,
  nan: 0x7f,
  saturates: true,
};
/** OCP FP8 E5M2: IEEE-like, largest finite 57344. */
export const e5m2: Minifloat = {
  mantissaBits: 2,
  exponentBias: 15,
  signShift: 7,
  maxFinite: 0x7b,
  infinity: 0x7c,
  nan: 0x7e,
  saturates: true,
};

const floatScratch = new Float32Array(1);
const bitScratch = new Uint32Array(floatScratch.buffer);

/** Every code of `format` as f32: exact, since f32 holds all of them. */
export function decodeTable(format: Minifloat): Float32Array {
  const signBit = 1 << format.signShift;
  const table = new Float32Array(signBit * 2);
  const mantissaMask = (1 << format.mantissaBits) - 1;
  for (let code = 0; code < signBit; code++) {
    const exponent = code >> format.mantissaBits;
    const mantissa = code & mantissaMask;
    let value =
      exponent === 0
        ? mantissa * 2 ** (1 - format.exponentBias - format.mantissaBits)
        : (1 + mantissa / (mantissaMask + 1)) * 2 ** (exponent - format.exponentBias);
    if (code > format.maxFinite) value = code === format.infinity ? Infinity : NaN;
    table[code] = value;
    table[code | signBit] = -value;
  }
  return table;
}

/** Rounds the f32 with the given bits to nearest, ties to even. NaN of any kind becomes the one positive quiet NaN. */
export function encodeBits(bits: number, format: Minifloat): number {
  const sign = (bits >>> 31) << format.signShift;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return format.nan;
  const dropped = 23 - format.mantissaBits;
  const minNormal = (128 - format.exponentBias) << 23;
  let code: number;
  if (magnitude < minNormal) {
    // Adding 2^k with the right k lines the last bit of a subnormal up with the last bit of an f32, whose own addition then rounds.
    const magic = (127 + 1 - format.exponentBias + dropped) << 23;
    bitScratch[0] = magic;
    const magicValue = floatScratch[0] ?? 0;
    bitScratch[0] = magnitude;
    floatScratch[0] = (floatScratch[0] ?? 0) + magicValue;
    code = (bitScratch[0] ?? 0) - magic;
  } else {
    const rebias = (127 - format.exponentBias) << 23;
    const halfUlpMinusOne = (1 << (dropped - 1)) - 1;
    code = (magnitude - rebias + halfUlpMinusOne + ((magnitude >>> dropped) & 1)) >>> dropped;
  }
  if (code > format.maxFinite) code = format.saturates ? format.maxFinite : (format.infinity ?? format.nan);
  return sign | code;
}

/** bfloat16 is the upper half of an f32. */
export function encodeBf16(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/**
 * Bits of the f32 nearest to zero from `value`, made odd when inexact. Rounding that again to a format with at least two bits less gives the same
 * as rounding the double once, so f64 sources do not round twice.
 */
export function roundToOddBits(value: number): number {
  floatScratch[0] = value;
  const nearest = floatScratch[0] ?? 0;
  const bits = bitScratch[0] ?? 0;
  if (nearest === value || Number.isNaN(value)) return bits;
  const towardsZero = Math.abs(nearest) > Math.abs(value) ? bits - 1 : bits;
  return (towardsZero | 1) >>> 0;
}

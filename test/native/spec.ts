// Float formats written from their definitions, slowly and apart from the product's code: every value of a format as a double, and rounding by search.

export interface Spec {
  readonly bits: number;
  readonly exponentBits: number;
  readonly bias: number;
  /** "ieee": all-ones exponent is Inf or NaN. "fn": only the all-ones code is NaN, no Inf. */
  readonly special: "ieee" | "fn";
  readonly saturates: boolean;
}

export const specs = {
  F16: { bits: 16, exponentBits: 5, bias: 15, special: "ieee", saturates: false },
  BF16: { bits: 16, exponentBits: 8, bias: 127, special: "ieee", saturates: false },
  F8_E4M3: { bits: 8, exponentBits: 4, bias: 7, special: "fn", saturates: true },
  F8_E5M2: { bits: 8, exponentBits: 5, bias: 15, special: "ieee", saturates: true },
} as const satisfies Record<string, Spec>;

/** sign * 1.m * 2^(e - bias), or sign * 0.m * 2^(1 - bias) when e is 0. */
export function valueOf(code: number, spec: Spec): number {
  const mantissaBits = spec.bits - 1 - spec.exponentBits;
  const sign = code >> (spec.bits - 1) ? -1 : 1;
  const exponent = (code >> mantissaBits) & (2 ** spec.exponentBits - 1);
  const mantissa = code & (2 ** mantissaBits - 1);
  const allOnes = exponent === 2 ** spec.exponentBits - 1;
  if (spec.special === "ieee" && allOnes) return mantissa === 0 ? sign * Infinity : NaN;
  if (spec.special === "fn" && allOnes && mantissa === 2 ** mantissaBits - 1) return NaN;
  return exponent === 0
    ? sign * (mantissa / 2 ** mantissaBits) * 2 ** (1 - spec.bias)
    : sign * (1 + mantissa / 2 ** mantissaBits) * 2 ** (exponent - spec.bias);
}

/** Codes of the non-negative finite values in rising order; code and order agree in every such format. */
function finiteCodes(spec: Spec): number[] {
  return Array.from({ length: 2 ** (spec.bits - 1) }, (_, code) => code).filter((code) => Number.isFinite(valueOf(code, spec)));
}

const rounders = new Map<Spec, (value: number) => number>();

/** The rounder of a format, made once: its table has a row per code. */
export function rounderOf(spec: Spec): (value: number) => number {
  const known = rounders.get(spec) ?? makeRounder(spec);
  rounders.set(spec, known);
  return known;
}

/** Nearest, ties to the even code; what lies at or beyond the midpoint to the next power step overflows. `NaN` has no code here. */
function makeRounder(spec: Spec): (value: number) => number {
  const codes = finiteCodes(spec);
  const values = codes.map((code) => valueOf(code, spec));
  const last = values.length - 1;
  const step = values[last]! - values[last - 1]!;
  return (value) => {
    const sign = value < 0 || Object.is(value, -0) ? 1 << (spec.bits - 1) : 0;
    const magnitude = Math.abs(value);
    if (magnitude >= values[last]! + step / 2) return sign | (spec.saturates ? codes[last]! : codes[last]! + 1);
    let low = 0;
    let high = last;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (values[middle]! <= magnitude) low = middle;
      else high = middle - 1;
    }
    if (low === last) return sign | codes[last]!;
    const down = magnitude - values[low]!;
    const up = values[low + 1]! - magnitude;
    const code = down < up || (down === up && low % 2 === 0) ? low : low + 1;
    return sign | code;
  };
}

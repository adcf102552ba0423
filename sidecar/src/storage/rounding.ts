// How a value becomes a code: to the nearest, or up and down by chance so that the mean is right.

/** `stochastic`: the chance follows from `seed` and the element's place alone, so that equal content gives equal codes. */
export type Rounding = { readonly kind: "nearest" } | { readonly kind: "stochastic"; readonly seed: number };

export const nearest: Rounding = { kind: "nearest" };

/** 32 well-mixed bits of a seed and a place (the finaliser of MurmurHash3 over both). */
export function mixed(seed: number, index: number): number {
  let bits = (seed ^ Math.imul(index, 0x9e3779b1)) >>> 0;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}

/** Seed of a text: FNV-1a, 32 bits. */
export function seedOf(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text, "utf8")) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/** In f64 everything above 2^52 is a whole number, so the addition itself rounds. */
const wholeFrom = 1.5 * 2 ** 52;

/** To nearest, ties to even; |value| below 2^51. */
export function roundEven(value: number): number {
  return value + wholeFrom - wholeFrom;
}

/** Rounds `value` to a whole number. */
export function roundWhole(value: number, rounding: Rounding, index: number): number {
  if (rounding.kind === "nearest") return roundEven(value);
  return Math.floor(value + mixed(rounding.seed, index) / 2 ** 32);
}

// How strong an adapter may be, and how people write it in a file's name or behind a path.

/** Beyond this a strength is a typing mistake, and half floats overflow. The wire has the same limit (`strength` in protocol/src/messages/values.ts). */
export const maxStrength = 100;

const expected = (place: string): string =>
  `expected a strength between -${maxStrength} and ${maxStrength}${place === "" ? "" : ` ${place}`}`;

/** Why a strength cannot be used; null for one that can. `place`: where it is written, for the text. */
export function strengthProblem(strength: number, place = ""): string | null {
  return Number.isFinite(strength) && Math.abs(strength) <= maxStrength ? null : `${expected(place)}, got ${strength}`;
}

const plainNumber = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i;

/** What a person may mean as a number: digits and signs of any custom, also with a copy's `(1)`, and the words for what is none. */
const likeNumber = /^(?:[+-]?[\d.,\s]*\d[\d.,\s]*(?:e[+-]?\d+)?[x%]?(?:\s*\(\d+\))?|[+-]?(?:nan|inf|infinity|∞))$/i;

export type WrittenStrength =
  | { readonly is: "strength"; readonly strength: number }
  /** Meant as a number, and none that can be used. */
  | { readonly is: "refused"; readonly reason: string }
  /** Not meant as a number. */
  | { readonly is: "text" };

/** Reads a strength as it is written: `0.8`, `-1`, `1e-2`, and `0,8` where a comma is read as a decimal point (`comma`). `place` as above. */
export function readStrength(text: string, { comma, place }: { readonly comma: boolean; readonly place: string }): WrittenStrength {
  const written = comma && /^[+-]?\d*,\d+$/.test(text) ? text.replace(",", ".") : text;
  if (plainNumber.test(written)) {
    // `+ 0` turns -0 into 0, so that equal stacks compare equal.
    const strength = Number(written) + 0;
    const problem = strengthProblem(strength, place);
    return problem === null ? { is: "strength", strength } : { is: "refused", reason: problem };
  }
  return likeNumber.test(text)
    ? { is: "refused", reason: `${expected(place)}, written like 0.8; got ${JSON.stringify(text)}` }
    : { is: "text" };
}

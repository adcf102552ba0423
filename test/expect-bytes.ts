// Set-up of every test file: equal bytes are equal arrays. Vitest would compare a file of 3 MB number by number, which takes 10 s of a core.

import { expect } from "vitest";

/** Undefined leaves the answer, and the words for a difference, to Vitest. */
function sameBytes(a: unknown, b: unknown): true | undefined {
  if (!ArrayBuffer.isView(a) || !ArrayBuffer.isView(b) || Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) return undefined;
  if (a.byteLength !== b.byteLength) return undefined;
  const bytes = ({ buffer, byteOffset, byteLength }: ArrayBufferView) => new Uint8Array(buffer, byteOffset, byteLength);
  return Buffer.compare(bytes(a), bytes(b)) === 0 || undefined;
}

expect.addEqualityTesters([sameBytes]);

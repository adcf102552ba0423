import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createLengthReader, readPrefix } from "../../../sidecar/src/arrivals/header-length.ts";

function prefix(value: bigint): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

describe("readPrefix", () => {
  it.each<readonly [string, Uint8Array, string]>([
    ["a header's length", prefix(200n), "header"],
    ["the largest length", prefix(100_000_000n), "header"],
    ["zeros, as in a preallocated file", prefix(0n), "pending"],
    ["fewer than eight bytes", Buffer.from([1, 2]), "pending"],
    ["a length above the cap", prefix(100_000_001n), "foreign"],
    ["a zip archive", Buffer.from("PK\u0003\u0004\u0014\u0000\u0000\u0000"), "foreign"],
    ["a web page", Buffer.from("<!DOCTYP"), "foreign"],
    ["GGUF", Buffer.from("GGUF\u0003\u0000\u0000\u0000"), "foreign"],
    ["a length too short for {}", prefix(1n), "foreign"],
  ])("%s", (_what, bytes, state) => {
    expect(readPrefix(bytes).state).toBe(state);
  });
});

describe("createLengthReader", () => {
  const read = (text: string | Uint8Array, piece = 1 << 20) => {
    const reader = createLengthReader();
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length; at += piece) reader.push(bytes.subarray(at, at + piece));
    return { bytes: reader.dataBytes(), complete: reader.complete() };
  };

  it("finds the furthest end whatever the order, the spacing, the names and the cut into pieces", () => {
    // Names that try to look like offsets; JSON.stringify escapes them, and so does any writer.
    const name = fc.oneof(
      fc.string(),
      fc.constantFrom('"data_offsets":[0,999999]', 'x","data_offsets":[1,2]', "data_offsets", "\u0000", "é😀"),
    );
    fc.assert(
      fc.property(
        fc.uniqueArray(name, { minLength: 1, maxLength: 8 }),
        fc.array(fc.nat(1e12), { minLength: 8, maxLength: 8 }),
        fc.integer({ min: 0, max: 3 }),
        fc.integer({ min: 1, max: 400 }),
        (names, ends, indent, piece) => {
          const tensors = names.map((key, index) => [key, { dtype: "F32", shape: [1], data_offsets: [0, ends[index] ?? 0] }] as const);
          const text = `${JSON.stringify(Object.fromEntries(tensors), null, indent)}   `;
          const expected = Math.max(...Object.values(Object.fromEntries(tensors)).map((tensor) => tensor.data_offsets[1] ?? 0));
          expect(read(text, piece)).toEqual({ bytes: expected, complete: true });
        },
      ),
    );
  });

  it("calls a header complete only with its last brace and without zeros", () => {
    const text = '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}';
    expect(read(text).complete).toBe(true);
    expect(read(text.slice(0, -3)).complete).toBe(false);
    expect(read(`${text.slice(0, 20)}\u0000${text.slice(21)}`).complete).toBe(false);
    expect(read(`x${text}`).complete).toBe(false);
    expect(read("").complete).toBe(false);
  });
});

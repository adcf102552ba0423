// Hostile tensor files, made by code: each breaks one rule and names the error that must answer it. The parser tests, the differential tests and the
// fuzz corpus use the same list.

import type { SafetensorsErrorCode } from "../../native/ts/index.ts";

export interface HostileFile {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly code: SafetensorsErrorCode;
  /** What the reference Python package says; "accepts" where we are stricter on purpose, with the reason. */
  readonly python: "rejects" | { readonly accepts: string };
}

/** A container with the given header text (or bytes), data section and, when it lies, length field. */
export function container(header: string | Uint8Array, data: Uint8Array | number = 0, length?: bigint): Uint8Array {
  const text = typeof header === "string" ? Buffer.from(header) : Buffer.from(header);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(length ?? BigInt(text.byteLength));
  return new Uint8Array(Buffer.concat([prefix, text, typeof data === "number" ? Buffer.alloc(data) : data]));
}

const tensor = (dtype: string, shape: string, begin: string | number, end: string | number): string =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`;
const one = tensor("F32", "[1]", 0, 4);
const utf8 = (text: string): Uint8Array => Buffer.from(text);

function hostile(name: string, bytes: Uint8Array, code: SafetensorsErrorCode, python: HostileFile["python"] = "rejects"): HostileFile {
  return { name, bytes, code, python };
}

export function hostileFiles(): HostileFile[] {
  const manyTensors = Array.from({ length: 200_001 }, (_, index) => `"${index}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`).join(",");
  return [
    hostile("empty file", new Uint8Array(0), "HEADER_TOO_SMALL"),
    hostile("seven bytes", new Uint8Array(7), "HEADER_TOO_SMALL"),
    hostile("length 2^64 - 1", container(`{"a":${one}}`, 4, 2n ** 64n - 1n), "HEADER_TOO_LARGE"),
    hostile("length above the cap", container(`{"a":${one}}`, 4, 100_000_001n), "HEADER_TOO_LARGE"),
    hostile("length 2^53 + 1, which a double cannot hold", container(`{"a":${one}}`, 4, 2n ** 53n + 1n), "HEADER_TOO_LARGE"),
    hostile("length beyond the file", container(`{"a":${one}}`, 4, 99_999_999n), "INVALID_HEADER_LENGTH"),
    hostile("length one beyond the file", container(`{"a":${one}}`, 0, BigInt(`{"a":${one}}`.length + 1)), "INVALID_HEADER_LENGTH"),
    hostile("all zero, as preallocated by a download", new Uint8Array(4096), "INVALID_HEADER_START"),
    hostile("header starts with a space", container(` {"a":${one}}`, 4), "INVALID_HEADER_START", {
      accepts: "the format says a header starts with {; the reference skips white space",
    }),
    hostile("header is an array", container("[]"), "INVALID_HEADER_START"),
    hostile(
      "header starts with a byte order mark",
      container(Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), utf8("{}")])),
      "INVALID_HEADER_START",
    ),
    hostile(
      "stray continuation byte",
      container(Buffer.concat([utf8('{"a'), Buffer.from([0x80]), utf8(`":${one}}`)]), 4),
      "INVALID_HEADER_UTF8",
    ),
    hostile(
      "overlong UTF-8",
      container(Buffer.concat([utf8('{"a'), Buffer.from([0xc0, 0xaf]), utf8(`":${one}}`)]), 4),
      "INVALID_HEADER_UTF8",
    ),
    hostile(
      "surrogate in UTF-8",
      container(Buffer.concat([utf8('{"a'), Buffer.from([0xed, 0xa0, 0x80]), utf8(`":${one}}`)]), 4),
      "INVALID_HEADER_UTF8",
    ),
    hostile("UTF-8 cut at the end", container(Buffer.concat([utf8("{}  "), Buffer.from([0xe2, 0x82])])), "INVALID_HEADER_UTF8"),
    hostile("header cut in the middle of JSON", container(`{"a":{"dtype":"F32"`), "INVALID_HEADER_JSON"),
    hostile("text after the object", container(`{"a":${one}} x`, 4), "INVALID_HEADER_JSON"),
    hostile("two objects", container("{}{}"), "INVALID_HEADER_JSON"),
    hostile("NUL padding", container("{}\0\0\0\0\0\0"), "INVALID_HEADER_JSON"),
    hostile("trailing comma", container(`{"a":${one},}`, 4), "INVALID_HEADER_JSON"),
    hostile("missing colon", container(`{"a" ${one}}`, 4), "INVALID_HEADER_JSON"),
    hostile("single quotes", container("{'a':1}"), "INVALID_HEADER_JSON"),
    hostile("control character in a name", container(`{"a\u0001":${one}}`, 4), "INVALID_HEADER_JSON"),
    hostile("unknown escape", container(`{"\\x41":${one}}`, 4), "INVALID_HEADER_JSON"),
    hostile("half a surrogate pair, escaped", container(`{"\\ud800":${one}}`, 4), "INVALID_HEADER_JSON"),
    hostile("low surrogate alone, escaped", container(`{"\\udc00x":${one}}`, 4), "INVALID_HEADER_JSON"),
    hostile("high surrogate followed by a letter", container(`{"\\ud800\\u0041":${one}}`, 4), "INVALID_HEADER_JSON"),
    hostile(
      "deeply nested unknown field",
      container(`{"a":{"x":${"[".repeat(200)}${"]".repeat(200)},"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4),
      "INVALID_HEADER_JSON",
    ),
    hostile("deeply nested and never closed", container(`{"a":{"x":${"[".repeat(1_000_000)}`), "INVALID_HEADER_JSON"),
    hostile("a leading zero", container(`{"a":${tensor("F32", "[01]", 0, 4)}}`, 4), "INVALID_HEADER_JSON"),
    hostile("a fraction", container(`{"a":${tensor("F32", "[1.0]", 0, 4)}}`, 4), "INVALID_HEADER_JSON"),
    hostile("an exponent", container(`{"a":${tensor("F32", "[1e0]", 0, 4)}}`, 4), "INVALID_HEADER_JSON"),
    hostile("a tensor twice", container(`{"a":${one},"a":${one}}`, 4), "DUPLICATE_KEY", {
      accepts: "the reference keeps the last entry; we refuse what two readers may read differently",
    }),
    hostile("a tensor twice, once escaped", container(`{"a":${one},"\\u0061":${tensor("F32", "[1]", 4, 8)}}`, 8), "DUPLICATE_KEY"),
    hostile("__metadata__ twice", container(`{"__metadata__":{},"__metadata__":{}}`), "DUPLICATE_KEY"),
    hostile("a metadata key twice", container(`{"__metadata__":{"a":"1","a":"2"}}`), "DUPLICATE_KEY", {
      accepts: "the reference keeps the last value; we refuse what two readers may read differently",
    }),
    hostile("dtype twice", container(`{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), "DUPLICATE_KEY"),
    hostile("metadata is an array", container(`{"__metadata__":[]}`), "INVALID_METADATA"),
    hostile("metadata value is a number", container(`{"__metadata__":{"a":1}}`), "INVALID_METADATA"),
    hostile("metadata value is an object", container(`{"__metadata__":{"a":{}}}`), "INVALID_METADATA"),
    hostile("tensor is a string", container(`{"a":"F32"}`), "TENSOR_INVALID_INFO"),
    hostile("tensor is null", container(`{"a":null}`), "TENSOR_INVALID_INFO"),
    hostile("no dtype", container(`{"a":{"shape":[1],"data_offsets":[0,4]}}`, 4), "TENSOR_INVALID_INFO"),
    hostile("no shape", container(`{"a":{"dtype":"F32","data_offsets":[0,4]}}`, 4), "TENSOR_INVALID_INFO"),
    hostile("no data_offsets", container(`{"a":{"dtype":"F32","shape":[1]}}`, 4), "TENSOR_INVALID_INFO"),
    hostile("dtype is a number", container(`{"a":{"dtype":1,"shape":[1],"data_offsets":[0,4]}}`, 4), "TENSOR_INVALID_INFO"),
    hostile("shape is a number", container(`{"a":${tensor("F32", "1", 0, 4)}}`, 4), "TENSOR_INVALID_INFO"),
    hostile("a negative dimension", container(`{"a":${tensor("F32", "[-1]", 0, 4)}}`, 4), "TENSOR_INVALID_INFO"),
    hostile("a dimension as a string", container(`{"a":${tensor("F32", '["1"]', 0, 4)}}`, 4), "TENSOR_INVALID_INFO"),
    hostile("one data_offset", container(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4]}}`, 4), "TENSOR_INVALID_INFO"),
    hostile("three data_offsets", container(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}`, 4), "TENSOR_INVALID_INFO"),
    hostile("size and offsets differ", container(`{"a":${tensor("F32", "[2]", 0, 4)}}`, 4), "TENSOR_INVALID_INFO"),
    hostile("wrong dtype for the size", container(`{"a":${tensor("F16", "[1]", 0, 4)}}`, 4), "TENSOR_INVALID_INFO"),
    hostile("rank 65", container(`{"a":${tensor("U8", `[${Array(65).fill(1).join(",")}]`, 0, 1)}}`, 1), "TENSOR_INVALID_INFO", {
      accepts: "no array library holds more than 64 dimensions",
    }),
    hostile("unknown dtype", container(`{"a":${tensor("F31", "[1]", 0, 4)}}`, 4), "UNKNOWN_DTYPE"),
    hostile("dtype in lower case", container(`{"a":${tensor("f32", "[1]", 0, 4)}}`, 4), "UNKNOWN_DTYPE"),
    hostile("half a byte", container(`{"a":${tensor("F4", "[3]", 0, 1)}}`, 1), "TENSOR_INVALID_INFO"),
    hostile("half a byte, rounded up", container(`{"a":${tensor("F4", "[3]", 0, 2)}}`, 2), "TENSOR_INVALID_INFO"),
    hostile("six bits", container(`{"a":${tensor("F6_E2M3", "[1]", 0, 1)}}`, 1), "TENSOR_INVALID_INFO"),
    hostile("four bits a value, a byte for each", container(`{"a":${tensor("F4", "[2]", 0, 2)}}`, 2), "TENSOR_INVALID_INFO"),
    hostile("shape of half bytes overflows", container(`{"a":${tensor("F4", "[4294967296,8388608]", 0, 1)}}`, 1), "VALIDATION_OVERFLOW"),
    hostile("metadata is null, then an object", container(`{"__metadata__":null,"__metadata__":{}}`), "DUPLICATE_KEY"),
    hostile("metadata is a word that begins as null", container(`{"__metadata__":nul}`), "INVALID_HEADER_JSON"),
    hostile("metadata is false", container(`{"__metadata__":false}`), "INVALID_METADATA"),
    hostile("a metadata value is null", container(`{"__metadata__":{"a":null}}`), "INVALID_METADATA"),
    hostile("offsets run backwards", container(`{"a":${tensor("F32", "[1]", 4, 0)}}`, 4), "INVALID_OFFSET"),
    hostile("a hole at the start", container(`{"a":${tensor("F32", "[1]", 4, 8)}}`, 8), "INVALID_OFFSET"),
    hostile("a hole between", container(`{"a":${one},"b":${tensor("F32", "[1]", 8, 12)}}`, 12), "INVALID_OFFSET"),
    hostile("an overlap", container(`{"a":${tensor("F32", "[2]", 0, 8)},"b":${tensor("F32", "[2]", 4, 12)}}`, 12), "INVALID_OFFSET"),
    hostile(
      "1,000 tensors over the same bytes",
      container(`{${Array.from({ length: 1000 }, (_, i) => `"${i}":${one}`).join(",")}}`, 4),
      "INVALID_OFFSET",
    ),
    hostile("shape product overflows 2^64", container(`{"a":${tensor("F32", "[4294967296,4294967296]", 0, 0)}}`), "VALIDATION_OVERFLOW"),
    hostile(
      "shape product overflows before a zero",
      container(`{"a":${tensor("F32", "[4294967296,4294967296,0]", 0, 0)}}`),
      "VALIDATION_OVERFLOW",
    ),
    hostile(
      "a dimension above 2^53",
      container(`{"a":${tensor("U8", "[9007199254740993]", 0, "9007199254740993")}}`),
      "VALIDATION_OVERFLOW",
    ),
    hostile(
      "an offset above 2^64",
      container(`{"a":${tensor("U8", "[1]", "18446744073709551616", "18446744073709551617")}}`),
      "VALIDATION_OVERFLOW",
    ),
    hostile("bytes after the last tensor", container(`{"a":${one}}`, 5), "METADATA_INCOMPLETE_BUFFER"),
    hostile("data cut short", container(`{"a":${tensor("F32", "[1000]", 0, 4000)}}`, 3999), "METADATA_INCOMPLETE_BUFFER"),
    hostile("data missing", container(`{"a":${one}}`), "METADATA_INCOMPLETE_BUFFER"),
    hostile("no tensors, but data", container("{}", 1), "METADATA_INCOMPLETE_BUFFER"),
    hostile("200,001 tensors", container(`{${manyTensors}}`), "TOO_MANY_TENSORS", {
      accepts: "no model file has as many; the cap bounds memory",
    }),
    hostile(
      "a zip archive (torch.save)",
      Buffer.concat([Buffer.from("PK\x03\x04\x00\x00\x08\x08", "latin1"), Buffer.alloc(200)]),
      "PICKLE_REFUSED",
    ),
    hostile(
      "a pickle, protocol 2",
      Buffer.concat([Buffer.from([0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46]), Buffer.alloc(200)]),
      "PICKLE_REFUSED",
    ),
    hostile(
      "a pickle, protocol 4",
      Buffer.concat([Buffer.from([0x80, 0x04, 0x95, 0x10, 0, 0, 0, 0, 0, 0, 0]), Buffer.alloc(200)]),
      "PICKLE_REFUSED",
    ),
    hostile("a GGUF file", Buffer.concat([Buffer.from("GGUF\x03\x00\x00\x00", "latin1"), Buffer.alloc(200)]), "NOT_SAFETENSORS"),
    hostile("a git-lfs pointer", utf8("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"), "NOT_SAFETENSORS"),
    hostile("an HTML page", utf8("\n<!DOCTYPE html><html><body>Please log in</body></html>"), "NOT_SAFETENSORS"),
  ];
}

/** Unusual but legal files: refusing one of these is a bug too. */
export function legalOddities(): { readonly name: string; readonly bytes: Uint8Array }[] {
  return [
    { name: "no tensors", bytes: container("{}") },
    { name: "space padding", bytes: container("{}      ") },
    { name: "metadata only", bytes: container(`{"__metadata__":{"a":"b","":"","é😀":"\\u00e9\\ud83d\\ude00"}}`) },
    { name: "metadata is null", bytes: container(`{"__metadata__":null,"a":${one}}`, 4) },
    { name: "metadata is null, and nothing else", bytes: container(`{"__metadata__": null }`) },
    { name: "four bits a value", bytes: container(`{"a":${tensor("F4", "[3,2]", 0, 3)},"b":${tensor("F32", "[1]", 3, 7)}}`, 7) },
    { name: "six bits a value", bytes: container(`{"a":${tensor("F6_E2M3", "[4]", 0, 3)},"b":${tensor("F6_E3M2", "[2,4]", 3, 9)}}`, 9) },
    { name: "complex numbers", bytes: container(`{"a":${tensor("C64", "[2]", 0, 16)}}`, 16) },
    { name: "scales in powers of two", bytes: container(`{"a":${tensor("F8_E8M0", "[2,3]", 0, 6)}}`, 6) },
    { name: "metadata last", bytes: container(`{"a":${one},"__metadata__":{"a":"b"}}`, 4) },
    { name: "a scalar", bytes: container(`{"a":${tensor("F64", "[]", 0, 8)}}`, 8) },
    {
      name: "zero-size tensors between others",
      bytes: container(
        `{"z":${tensor("F32", "[0,7]", 0, 0)},"a":${one},"m":${tensor("F16", "[3,0]", 4, 4)},"b":${tensor("F32", "[1]", 4, 8)},"e":${tensor("U8", "[0]", 8, 8)}}`,
        8,
      ),
    },
    { name: "tensors out of order", bytes: container(`{"b":${tensor("F32", "[1]", 4, 8)},"a":${one}}`, 8) },
    {
      name: "names that are prototype traps",
      bytes: container(`{"__proto__":${one},"constructor":${tensor("F32", "[1]", 4, 8)},"toString":${tensor("F32", "[1]", 8, 12)}}`, 12),
    },
    { name: "metadata named __proto__", bytes: container(`{"__metadata__":{"__proto__":"x","constructor":"y"}}`) },
    { name: "an empty name", bytes: container(`{"":${one}}`, 4) },
    {
      name: "white space everywhere",
      bytes: container(`{ "a" : { "shape" : [ 1 ] , "data_offsets" : [ 0 , 4 ] , "dtype" : "F32" } } `, 4),
    },
    { name: "unaligned tensors", bytes: container(`{"a":${tensor("U8", "[1]", 0, 1)},"b":${tensor("F32", "[1]", 1, 5)}}`, 5) },
    {
      name: "every dtype",
      bytes: container(
        `{${(["BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F6_E2M3", "F6_E3M2", "F4", "C64", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "I64", "U64", "F64"] as const).map((dtype, index) => `"${index}":${tensor(dtype, "[0]", 0, 0)}`).join(",")}}`,
      ),
    },
    { name: "a header of 640 bytes, whose length looks like a pickle", bytes: container("{}".padEnd(640)) },
  ];
}

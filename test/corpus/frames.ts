// Tensor frames that break one rule each, and good ones that look odd. Written to frames.json, which readers in other languages are run against.

import { encodeFrame, type FrameErrorCode } from "../../protocol/src/index.ts";

export interface FrameCase {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** null: every reader takes it. */
  readonly code: FrameErrorCode | null;
}

const tensor = (name: string, shape: readonly number[]) => ({
  name,
  dtype: "f32" as const,
  shape,
  data: new Uint8Array(shape.reduce((product, dim) => product * dim, 4)).fill(1),
});
const reply = { jsonrpc: "2.0", id: 1, result: {} };
const good = (): Uint8Array => encodeFrame(reply, [tensor("a", [3]), tensor("b", [2, 2])]);

/** A good frame with something changed in place. */
function changed(change: (bytes: Uint8Array, view: DataView) => void): Uint8Array {
  const bytes = good();
  change(bytes, new DataView(bytes.buffer));
  return bytes;
}

/** A frame whose header is this text, whatever it says; `payload` follows. */
function withHeader(text: string | Uint8Array, count: number, payload: number | Uint8Array = 0): Uint8Array {
  const header = typeof text === "string" ? new TextEncoder().encode(text) : text;
  const data = typeof payload === "number" ? new Uint8Array(payload).fill(1) : payload;
  const start = 64 + Math.ceil(header.byteLength / 64) * 64;
  const bytes = new Uint8Array(start + data.byteLength);
  const view = new DataView(bytes.buffer);
  bytes.set([0x52, 0x46, 0x54, 0x31, 1, 0]);
  view.setUint16(6, count, true);
  view.setUint32(8, header.byteLength, true);
  view.setBigUint64(16, BigInt(data.byteLength), true);
  bytes.set(header, 64);
  bytes.set(data, start);
  return bytes;
}

const described = (rows: readonly unknown[], payload = 0, count = rows.length): Uint8Array =>
  withHeader(JSON.stringify({ ...reply, result: { tensors: rows } }), count, payload);
const row = (changes: Readonly<Record<string, unknown>> = {}): Record<string, unknown> => ({
  name: "a",
  dtype: "f32",
  shape: [2],
  offset: 0,
  bytes: 8,
  ...changes,
});
const without = (field: string): Record<string, unknown> => Object.fromEntries(Object.entries(row()).filter(([name]) => name !== field));
const bad = (name: string, bytes: Uint8Array, code: FrameErrorCode): FrameCase => ({ name, bytes, code });
const taken = (name: string, bytes: Uint8Array): FrameCase => ({ name, bytes, code: null });

export function frameCases(): FrameCase[] {
  const invalid = (name: string, changes: Readonly<Record<string, unknown>>, payload = 8) =>
    bad(name, described([row(changes)], payload), "FRAME_TENSOR_INVALID");
  return [
    taken("two tensors", good()),
    taken("no tensors", encodeFrame(reply)),
    taken("a scalar and an empty tensor", encodeFrame(reply, [tensor("scalar", []), tensor("empty", [0, 7])])),
    taken("a tensor in a segment", described([row({ segment: 0, offset: 128 })])),
    taken("a name of 512 characters", described([row({ name: "n".repeat(512) })], 8)),
    taken(
      "whole numbers with a fraction of zero",
      withHeader('{"result":{"tensors":[{"name":"a","dtype":"f32","shape":[2.0],"offset":0.0,"bytes":8.0}]}}', 1, 8),
    ),
    bad("nothing", new Uint8Array(0), "FRAME_TRUNCATED"),
    bad("63 bytes", good().slice(0, 63), "FRAME_TRUNCATED"),
    bad("a byte is missing at the end", good().slice(0, -1), "FRAME_TRUNCATED"),
    bad("a byte too many", new Uint8Array([...good(), 0]), "FRAME_TRUNCATED"),
    bad(
      "another magic",
      changed((bytes) => (bytes[0] = 0x51)),
      "FRAME_BAD_MAGIC",
    ),
    bad(
      "version 2",
      changed((bytes) => (bytes[4] = 2)),
      "FRAME_BAD_VERSION",
    ),
    bad(
      "the reserved byte is set",
      changed((bytes) => (bytes[5] = 1)),
      "FRAME_RESERVED_SET",
    ),
    bad(
      "the reserved word is set",
      changed((bytes) => (bytes[15] = 1)),
      "FRAME_RESERVED_SET",
    ),
    bad(
      "a byte of the reserved tail is set",
      changed((bytes) => (bytes[63] = 1)),
      "FRAME_RESERVED_SET",
    ),
    bad(
      "the first byte of the reserved tail is set",
      changed((bytes) => (bytes[24] = 255)),
      "FRAME_RESERVED_SET",
    ),
    bad(
      "a header of 4 GiB",
      changed((_bytes, view) => view.setUint32(8, 0xffffffff, true)),
      "FRAME_HEADER_TOO_LARGE",
    ),
    bad(
      "a payload of 2^63 bytes",
      changed((_bytes, view) => view.setBigUint64(16, 2n ** 63n, true)),
      "FRAME_PAYLOAD_TOO_LARGE",
    ),
    bad(
      "padding after the header is not zero",
      changed((bytes, view) => (bytes[64 + view.getUint32(8, true)] = 1)),
      "FRAME_HEADER_INVALID",
    ),
    bad("the header is no JSON", withHeader("{", 0), "FRAME_HEADER_INVALID"),
    bad("the header is empty", withHeader("", 0), "FRAME_HEADER_INVALID"),
    bad("the header is a list", withHeader("[]", 0), "FRAME_HEADER_INVALID"),
    bad("the header is a number", withHeader("1", 0), "FRAME_HEADER_INVALID"),
    bad("the header is not UTF-8", withHeader(new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), 0), "FRAME_HEADER_INVALID"),
    bad("the header is UTF-16", withHeader(new Uint8Array(Buffer.from("{}", "utf16le")), 0), "FRAME_HEADER_INVALID"),
    bad("the header holds NaN", withHeader('{"result":{"ms":NaN}}', 0), "FRAME_HEADER_INVALID"),
    bad("the header holds Infinity", withHeader('{"result":{"ms":-Infinity}}', 0), "FRAME_HEADER_INVALID"),
    bad("two messages in one header", withHeader("{}{}", 0), "FRAME_HEADER_INVALID"),
    bad(
      "bytes between tensors are not zero",
      changed((bytes, view) => (bytes[64 + Math.ceil(view.getUint32(8, true) / 64) * 64 + 12] = 1)),
      "FRAME_TENSOR_INVALID",
    ),
    bad("more descriptors than the prefix counts", described([row(), row({ name: "b", offset: 64 })], 72, 1), "FRAME_TENSOR_INVALID"),
    bad("fewer descriptors than the prefix counts", described([row()], 8, 2), "FRAME_TENSOR_INVALID"),
    bad("descriptors that are no list", withHeader('{"result":{"tensors":{}}}', 0), "FRAME_TENSOR_INVALID"),
    bad("a descriptor that is no object", described([[]]), "FRAME_TENSOR_INVALID"),
    ...["name", "dtype", "shape", "offset", "bytes"].map((field) =>
      bad(`a descriptor without ${field}`, described([without(field)], 8), "FRAME_TENSOR_INVALID"),
    ),
    invalid("an empty name", { name: "" }),
    invalid("a name of 600 characters", { name: "n".repeat(600) }),
    invalid("a name that is a number", { name: 1 }),
    invalid("an unknown dtype", { dtype: "f64" }),
    invalid("a dtype that is a prototype's field", { dtype: "toString" }),
    invalid("a negative dimension", { shape: [-2] }),
    invalid("a dimension that is a text", { shape: ["2"] }),
    invalid("a dimension that is true", { shape: [true, 2] }),
    invalid("half a dimension", { shape: [2.5] }),
    invalid("a shape that is a number", { shape: 2 }),
    invalid("nine dimensions", { shape: [2, 1, 1, 1, 1, 1, 1, 1, 1] }),
    invalid("a product above 2^53", { shape: [2 ** 30, 2 ** 30] }),
    invalid("bytes that are not the shape's", { bytes: 4 }),
    invalid("an offset that is no multiple of 64", { offset: 8 }, 16),
    invalid("an offset that leaves a hole", { offset: 64 }, 72),
    invalid("a negative offset", { offset: -64 }),
    invalid("a tensor that ends outside the payload", {}, 4),
    invalid("a payload that goes on after the last tensor", {}, 16),
    invalid("a negative segment", { segment: -1 }, 0),
    invalid("a segment that is a text", { segment: "0" }, 0),
    invalid("a segment that is null", { segment: null }, 0),
    bad("a name twice", described([row(), row({ offset: 64 })], 72), "FRAME_TENSOR_INVALID"),
    bad("tensors in the wrong order", described([row({ offset: 64 }), row({ name: "b" })], 72), "FRAME_TENSOR_INVALID"),
    bad("an overlap", described([row(), row({ name: "b" })], 8), "FRAME_TENSOR_INVALID"),
  ];
}

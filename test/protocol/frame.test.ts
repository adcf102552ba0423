import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import fc from "fast-check";
import { decodeFrame, encodeFrame, encodeFrameParts, FrameError, FrameReader, tensorDtypes } from "../../protocol/src/frame.ts";
import type { FrameErrorCode, FrameTensor, TensorDescriptor, TensorDtype } from "../../protocol/src/frame.ts";

const message = { jsonrpc: "2.0", id: 1, method: "step", params: { engine: "é" } };
const tensor: FrameTensor = { name: "sample", dtype: "f32", shape: [2, 3], data: new Uint8Array(24).map((_, index) => index + 1) };

function codeOf(action: () => unknown): FrameErrorCode {
  try {
    action();
  } catch (error) {
    if (error instanceof FrameError) return error.code;
    throw error;
  }
  throw new Error("expected a FrameError");
}

function edited(edit: (bytes: Uint8Array, view: DataView) => void, source = encodeFrame(message, [tensor])): Uint8Array {
  const bytes = source.slice();
  edit(bytes, new DataView(bytes.buffer));
  return bytes;
}

/** A frame with a hand-written header and payload. */
function raw(json: string, count: number, payload: Uint8Array): Uint8Array {
  const header = new TextEncoder().encode(json);
  const start = 64 + Math.ceil(header.length / 64) * 64;
  const bytes = new Uint8Array(start + payload.length);
  const view = new DataView(bytes.buffer);
  bytes.set([0x52, 0x46, 0x54, 0x31, 1]);
  view.setUint16(6, count, true);
  view.setUint32(8, header.length, true);
  view.setBigUint64(16, BigInt(payload.length), true);
  bytes.set(header, 64);
  bytes.set(payload, start);
  return bytes;
}
const withTensor = (descriptor: object, payloadBytes: number): Uint8Array =>
  raw(JSON.stringify({ params: { tensors: [descriptor] } }), 1, new Uint8Array(payloadBytes));

describe("encodeFrame", () => {
  it("equals the golden frame that the Python sides read and write too", () => {
    const golden = readFileSync(new URL("./golden/step-request.rft", import.meta.url));
    const timestep: FrameTensor = { name: "timestep", dtype: "i64", shape: [1], data: new Uint8Array(8).fill(9) };
    const bytes = encodeFrame(message, [tensor, timestep]);
    expect(Buffer.compare(bytes, golden)).toBe(0);
    expect(decodeFrame(golden).tensors.map(({ name, data }) => [name, ...data])).toEqual([
      ["sample", ...tensor.data],
      ["timestep", ...timestep.data],
    ]);
  });

  it("equals the golden frame of a step whose large input lies in a segment", () => {
    const golden = readFileSync(new URL("./golden/step-in-segment.rft", import.meta.url));
    const place: TensorDescriptor = { name: "mid_residual", dtype: "f16", shape: [2, 3], offset: 640, bytes: 12, segment: 0 };
    expect(Buffer.compare(encodeFrame({ ...message, params: { engine: "é", segments: ["a-segment_1"] } }, [tensor], [place]), golden)).toBe(
      0,
    );
    const { descriptors, tensors } = decodeFrame(golden);
    expect(descriptors).toMatchObject([place, { name: "sample" }]);
    expect(tensors.map(({ name, data }) => [name, ...data])).toEqual([["sample", ...tensor.data]]);
  });

  it("lays the frame out byte by byte as the contract says", () => {
    const bytes = encodeFrame(message, [tensor, { name: "t", dtype: "i64", shape: [], data: new Uint8Array(8) }]);
    const view = new DataView(bytes.buffer);
    expect(new TextDecoder().decode(bytes.subarray(0, 4))).toBe("RFT1");
    expect([bytes[4], bytes[5], view.getUint16(6, true), view.getUint32(12, true)]).toEqual([1, 0, 2, 0]);
    const headerBytes = view.getUint32(8, true);
    const json = JSON.parse(new TextDecoder().decode(bytes.subarray(64, 64 + headerBytes))) as { params: unknown };
    expect(json.params).toEqual({
      engine: "é",
      tensors: [
        { name: "sample", dtype: "f32", shape: [2, 3], offset: 0, bytes: 24 },
        { name: "t", dtype: "i64", shape: [], offset: 64, bytes: 8 },
      ],
    });
    expect(Number(view.getBigUint64(16, true))).toBe(72);
    expect(bytes.length).toBe(64 + Math.ceil(headerBytes / 64) * 64 + 72);
  });

  it("puts descriptors into the result of a reply and keeps a message without tensors as it is", () => {
    expect(decodeFrame(encodeFrame({ id: 1, result: { ms: 2 } }, [tensor])).message).toMatchObject({
      result: { ms: 2, tensors: [{ name: "sample" }] },
    });
    expect(decodeFrame(encodeFrame(message)).message).toEqual(message);
  });

  it("refuses a tensor whose data does not fit its shape", () => {
    expect(() => encodeFrameParts(message, [{ ...tensor, shape: [7] }])).toThrow(TypeError);
  });

  it("carries descriptors of tensors in segments without payload", () => {
    const frame = decodeFrame(encodeFrame(message, [], [{ name: "a", dtype: "f16", shape: [4], offset: 128, bytes: 8, segment: 0 }]));
    expect(frame.descriptors).toEqual([{ name: "a", dtype: "f16", shape: [4], offset: 128, bytes: 8, segment: 0 }]);
    expect(frame.tensors).toEqual([]);
  });
});

describe("decodeFrame", () => {
  it("gives aligned tensor data even from an unaligned buffer", () => {
    const bytes = encodeFrame(message, [tensor]);
    const shifted = new Uint8Array(bytes.length + 1);
    shifted.set(bytes, 1);
    const [got] = decodeFrame(shifted.subarray(1)).tensors;
    // Node's Buffer: its slice() would be a view.
    const [fromBuffer] = decodeFrame(Buffer.from(shifted.buffer, 1)).tensors;
    expect(Buffer.isBuffer(fromBuffer?.data)).toBe(false);
    expect((fromBuffer?.data.byteOffset ?? 1) % 8).toBe(0);
    expect(got?.data.byteOffset ?? 1).toSatisfy((offset: number) => offset % 8 === 0);
    expect([...(got?.data ?? [])]).toEqual([...tensor.data]);
  });

  it.each<[FrameErrorCode, string, () => Uint8Array]>([
    ["FRAME_BAD_MAGIC", "other magic", () => edited((bytes) => (bytes[0] = 0))],
    ["FRAME_BAD_VERSION", "version 2", () => edited((bytes) => (bytes[4] = 2))],
    ["FRAME_RESERVED_SET", "reserved byte 5", () => edited((bytes) => (bytes[5] = 1))],
    ["FRAME_RESERVED_SET", "reserved word 12", () => edited((_, view) => view.setUint32(12, 1, true))],
    ["FRAME_RESERVED_SET", "reserved byte 63", () => edited((bytes) => (bytes[63] = 1))],
    ["FRAME_HEADER_TOO_LARGE", "header of 4 GB", () => edited((_, view) => view.setUint32(8, 0xffffffff, true))],
    ["FRAME_PAYLOAD_TOO_LARGE", "payload of 2^63 bytes", () => edited((_, view) => view.setBigUint64(16, 1n << 63n, true))],
    ["FRAME_TRUNCATED", "a short prefix", () => new Uint8Array(10)],
    ["FRAME_TRUNCATED", "a missing last byte", () => encodeFrame(message, [tensor]).subarray(0, -1)],
    ["FRAME_TRUNCATED", "bytes after the frame", () => new Uint8Array([...encodeFrame(message), 0])],
    ["FRAME_HEADER_INVALID", "no JSON", () => raw("{", 0, new Uint8Array())],
    ["FRAME_HEADER_INVALID", "a JSON list", () => raw("[]", 0, new Uint8Array())],
    ["FRAME_HEADER_INVALID", "no header", () => raw("", 0, new Uint8Array())],
    ["FRAME_HEADER_INVALID", "null", () => raw("null", 0, new Uint8Array())],
    ["FRAME_HEADER_INVALID", "100,000 levels", () => raw("[".repeat(100_000), 0, new Uint8Array())],
    ["FRAME_HEADER_INVALID", "bad UTF-8", () => edited((bytes) => (bytes[70] = 0xff), encodeFrame({ a: "bbbbbbbbbbb" }))],
    ["FRAME_HEADER_INVALID", "padding set", () => edited((bytes) => (bytes[bytes.length - 1] = 1), encodeFrame({ a: 1 }))],
    ["FRAME_TENSOR_INVALID", "count without descriptors", () => raw("{}", 1, new Uint8Array())],
    ["FRAME_TENSOR_INVALID", "payload without tensors", () => raw("{}", 0, new Uint8Array(64))],
    ["FRAME_TENSOR_INVALID", "a descriptor that is a number", () => raw(JSON.stringify({ params: { tensors: [1] } }), 1, new Uint8Array())],
    ["FRAME_TENSOR_INVALID", "no name", () => withTensor({ name: "", dtype: "u8", shape: [1], offset: 0, bytes: 1 }, 1)],
    ["FRAME_TENSOR_INVALID", "an unknown dtype", () => withTensor({ name: "a", dtype: "toString", shape: [1], offset: 0, bytes: 1 }, 1)],
    [
      "FRAME_TENSOR_INVALID",
      "nine dimensions",
      () => withTensor({ name: "a", dtype: "u8", shape: Array(9).fill(1), offset: 0, bytes: 1 }, 1),
    ],
    ["FRAME_TENSOR_INVALID", "a negative dimension", () => withTensor({ name: "a", dtype: "u8", shape: [-1], offset: 0, bytes: 1 }, 1)],
    [
      "FRAME_TENSOR_INVALID",
      "a product beyond 2^53",
      () => withTensor({ name: "a", dtype: "u8", shape: [2 ** 40, 2 ** 40], offset: 0, bytes: 1 }, 1),
    ],
    ["FRAME_TENSOR_INVALID", "bytes that do not match", () => withTensor({ name: "a", dtype: "f32", shape: [1], offset: 0, bytes: 1 }, 1)],
    ["FRAME_TENSOR_INVALID", "an unaligned offset", () => withTensor({ name: "a", dtype: "u8", shape: [1], offset: 1, bytes: 1 }, 2)],
    [
      "FRAME_TENSOR_INVALID",
      "an offset beyond the payload",
      () => withTensor({ name: "a", dtype: "u8", shape: [1], offset: 64, bytes: 1 }, 1),
    ],
    [
      "FRAME_TENSOR_INVALID",
      "a bad segment",
      () => withTensor({ name: "a", dtype: "u8", shape: [1], offset: 0, bytes: 1, segment: -1 }, 0),
    ],
    [
      "FRAME_TENSOR_INVALID",
      "bytes after the last tensor",
      () => withTensor({ name: "a", dtype: "u8", shape: [1], offset: 0, bytes: 1 }, 2),
    ],
    [
      "FRAME_TENSOR_INVALID",
      "descriptors without a count",
      () =>
        raw(JSON.stringify({ params: { tensors: [{ name: "a", dtype: "u8", shape: [1], offset: 0, bytes: 1 }] } }), 0, new Uint8Array(1)),
    ],
    [
      "FRAME_TENSOR_INVALID",
      "two tensors on the same bytes",
      () =>
        raw(
          JSON.stringify({ params: { tensors: ["a", "b"].map((name) => ({ name, dtype: "u8", shape: [1], offset: 0, bytes: 1 })) } }),
          2,
          new Uint8Array(1),
        ),
    ],
    [
      "FRAME_TENSOR_INVALID",
      "a gap of 64 bytes",
      () =>
        raw(
          JSON.stringify({
            params: { tensors: [0, 128].map((offset) => ({ name: `t${offset}`, dtype: "u8", shape: [1], offset, bytes: 1 })) },
          }),
          2,
          new Uint8Array(129),
        ),
    ],
    [
      "FRAME_TENSOR_INVALID",
      "a dimension that is text",
      () => withTensor({ name: "a", dtype: "u8", shape: ["1"], offset: 0, bytes: 1 }, 1),
    ],
    [
      "FRAME_TENSOR_INVALID",
      "a product that wraps to 0",
      () => withTensor({ name: "a", dtype: "u8", shape: [2 ** 32, 2 ** 32], offset: 0, bytes: 0 }, 0),
    ],
    [
      "FRAME_TENSOR_INVALID",
      "a name of 513 characters",
      () => withTensor({ name: "n".repeat(513), dtype: "u8", shape: [1], offset: 0, bytes: 1 }, 1),
    ],
    ["FRAME_TENSOR_INVALID", "a name twice", () => encodeFrame(message, [tensor, tensor])],
    [
      "FRAME_TENSOR_INVALID",
      "padding between tensors set",
      () => edited((bytes) => (bytes[bytes.length - 30] = 1), encodeFrame(message, [tensor, { ...tensor, name: "b" }])),
    ],
  ])("%s for %s", (code, _, bytes) => {
    expect(codeOf(() => decodeFrame(bytes()))).toBe(code);
  });
});

const anyTensor = (index: number) =>
  fc
    .record({
      dtype: fc.constantFrom(...(Object.keys(tensorDtypes) as TensorDtype[])),
      shape: fc.array(fc.nat(4), { maxLength: 3 }),
      fill: fc.nat(255),
    })
    .map(({ dtype, shape, fill }): FrameTensor => ({
      name: `t${index}`,
      dtype,
      shape,
      data: new Uint8Array(shape.reduce((product, dimension) => product * dimension, tensorDtypes[dtype])).fill(fill),
    }));
const anyFrame = fc.tuple(
  fc.record({
    jsonrpc: fc.constant("2.0"),
    method: fc.string(),
    params: fc.dictionary(
      fc.string().filter((key) => key !== "tensors" && key !== "__proto__"),
      fc.string(),
    ),
  }),
  fc.tuple(anyTensor(0), anyTensor(1), anyTensor(2)),
  fc.nat(3),
);

describe("FrameReader", () => {
  it("returns what was encoded, however the stream is cut", () => {
    fc.assert(
      fc.property(fc.array(anyFrame, { maxLength: 4 }), fc.integer({ min: 1, max: 200 }), (frames, chunkBytes) => {
        const stream = frames.flatMap(([content, tensors, count]) => encodeFrameParts(content, tensors.slice(0, count)));
        const whole = new Uint8Array(stream.flatMap((part) => [...part]));
        const reader = new FrameReader();
        const got = [];
        for (let at = 0; at < whole.length; at += chunkBytes) got.push(...reader.push(whole.subarray(at, at + chunkBytes)));
        expect(reader.pendingBytes).toBe(0);
        expect(got.map((frame) => frame.tensors.map(({ name, data }) => [name, ...data]))).toEqual(
          frames.map(([, tensors, count]) => tensors.slice(0, count).map(({ name, data }) => [name, ...data])),
        );
        expect(got.map((frame) => frame.message["method"])).toEqual(frames.map(([content]) => content.method));
      }),
      { numRuns: 60 },
    );
  });

  it("says how much of an unfinished frame it holds", () => {
    const reader = new FrameReader();
    const bytes = encodeFrame(message, [tensor]);
    reader.push(bytes.subarray(0, 100));
    expect(reader.pendingBytes).toBe(100);
    expect(reader.push(bytes.subarray(100))).toHaveLength(1);
    expect(reader.pendingBytes).toBe(0);
  });

  it("refuses an oversized payload before it arrives", () => {
    const reader = new FrameReader({ headerBytes: 1024, payloadBytes: 8 });
    expect(codeOf(() => reader.push(encodeFrame(message, [tensor]).subarray(0, 64)))).toBe("FRAME_PAYLOAD_TOO_LARGE");
    expect(codeOf(() => reader.push(encodeFrame({ a: 1 })))).toBe("FRAME_PAYLOAD_TOO_LARGE");
  });
});

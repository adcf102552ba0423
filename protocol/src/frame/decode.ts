// Bytes to a checked message and its tensors.

import {
  align,
  defaultFrameLimits,
  FrameError,
  isObject,
  maxDimensions,
  maxNameLength,
  prefixBytes,
  roundUp,
  tensorBytes,
  tensorDtypes,
  version,
} from "./layout.ts";
import type { Frame, FrameLimits, FrameTensor, JsonObject, TensorDescriptor, TensorDtype } from "./layout.ts";

export interface Prefix {
  readonly tensorCount: number;
  readonly headerBytes: number;
  readonly payloadBytes: number;
  readonly payloadStart: number;
  readonly totalBytes: number;
}

export function readPrefix(bytes: Uint8Array, limits: FrameLimits): Prefix {
  const view = new DataView(bytes.buffer, bytes.byteOffset, prefixBytes);
  if (view.getUint32(0, false) !== 0x52465431)
    throw new FrameError("FRAME_BAD_MAGIC", 'expected a frame that starts with "RFT1"; the other side does not speak this protocol');
  if (bytes[4] !== version)
    throw new FrameError("FRAME_BAD_VERSION", `expected frame version ${version}, got ${bytes[4]}; update the older side`);
  if (bytes[5] !== 0 || view.getUint32(12, true) !== 0 || bytes.subarray(24, prefixBytes).some((byte) => byte !== 0)) {
    throw new FrameError("FRAME_RESERVED_SET", "expected zeros in the reserved bytes of a frame; the other side uses an unknown extension");
  }
  const headerBytes = view.getUint32(8, true);
  if (headerBytes > limits.headerBytes)
    throw new FrameError("FRAME_HEADER_TOO_LARGE", `expected a header of at most ${limits.headerBytes} bytes, got ${headerBytes}`);
  const payload = view.getBigUint64(16, true);
  if (payload > BigInt(limits.payloadBytes))
    throw new FrameError(
      "FRAME_PAYLOAD_TOO_LARGE",
      `expected a payload of at most ${limits.payloadBytes} bytes, got ${payload}; send fewer or smaller tensors`,
    );
  const payloadBytes = Number(payload);
  const payloadStart = prefixBytes + roundUp(headerBytes);
  return { tensorCount: view.getUint16(6, true), headerBytes, payloadBytes, payloadStart, totalBytes: payloadStart + payloadBytes };
}

function readMessage(json: Uint8Array, padding: Uint8Array): JsonObject {
  if (padding.some((byte) => byte !== 0)) throw new FrameError("FRAME_HEADER_INVALID", "expected zeros after the JSON header");
  let message: unknown;
  try {
    message = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(json));
  } catch {
    throw new FrameError("FRAME_HEADER_INVALID", "expected the header to be UTF-8 JSON");
  }
  if (!isObject(message)) throw new FrameError("FRAME_HEADER_INVALID", "expected the header to be a JSON object (one JSON-RPC message)");
  return message;
}

function readDescriptor(value: unknown, index: number): TensorDescriptor {
  const bad = (expected: string): FrameError => new FrameError("FRAME_TENSOR_INVALID", `tensor ${index}: expected ${expected}`);
  if (!isObject(value)) throw bad("an object {name, dtype, shape, offset, bytes}");
  const { name, dtype, shape, offset, bytes, segment } = value;
  if (typeof name !== "string" || name.length === 0 || name.length > maxNameLength) throw bad(`a name of 1 to ${maxNameLength} characters`);
  if (typeof dtype !== "string" || !Object.hasOwn(tensorDtypes, dtype))
    throw bad(`dtype to be one of ${Object.keys(tensorDtypes).join(", ")}`);
  if (!Array.isArray(shape) || shape.length > maxDimensions) throw bad(`shape to be a list of at most ${maxDimensions} dimensions`);
  const size = tensorBytes(dtype as TensorDtype, shape as number[]);
  if (size === null) throw bad("dimensions that are whole numbers with a product below 2^53");
  if (bytes !== size) throw bad(`${size} bytes for ${dtype} [${shape.join(", ")}], got ${String(bytes)}`);
  if (typeof offset !== "number" || !Number.isSafeInteger(offset) || offset < 0 || offset % align !== 0)
    throw bad(`an offset that is a multiple of ${align}`);
  if (segment !== undefined && (typeof segment !== "number" || !Number.isSafeInteger(segment) || segment < 0))
    throw bad("segment to be an index");
  return {
    name,
    dtype: dtype as TensorDtype,
    shape: shape as number[],
    offset,
    bytes: size,
    ...(segment === undefined ? {} : { segment }),
  };
}

/** The checked descriptors of a message, in order. A frame's prefix counts them; a text message (all tensors in segments) has no count. Throws FrameError. */
export function readDescriptors(message: JsonObject, count: number | null = null): TensorDescriptor[] {
  const holder = isObject(message["result"]) ? message["result"] : isObject(message["params"]) ? message["params"] : {};
  const list = holder["tensors"] ?? [];
  if (!Array.isArray(list)) throw new FrameError("FRAME_TENSOR_INVALID", "expected tensors to be a list of descriptors");
  if (count !== null && list.length !== count)
    throw new FrameError("FRAME_TENSOR_INVALID", `expected ${count} tensor descriptors in the message, as the frame's prefix says`);
  const descriptors = list.map(readDescriptor);
  if (new Set(descriptors.map((tensor) => tensor.name)).size !== descriptors.length)
    throw new FrameError("FRAME_TENSOR_INVALID", "expected every tensor name once");
  return descriptors;
}

/** Cuts the payload into tensors; they must lie in order, padded with zeros to the next multiple of 64, and end where the payload ends. */
function readTensors(descriptors: readonly TensorDescriptor[], payload: Uint8Array): FrameTensor[] {
  const tensors: FrameTensor[] = [];
  let end = 0;
  for (const { name, dtype, shape, offset, bytes, segment } of descriptors) {
    if (segment !== undefined) continue;
    if (offset !== roundUp(end) || offset + bytes > payload.byteLength) {
      throw new FrameError(
        "FRAME_TENSOR_INVALID",
        `tensor ${name}: expected it at offset ${roundUp(end)} inside a payload of ${payload.byteLength} bytes, got offset ${offset} and ${bytes} bytes`,
      );
    }
    if (payload.subarray(end, offset).some((byte) => byte !== 0))
      throw new FrameError("FRAME_TENSOR_INVALID", `expected zeros between tensors, before ${name}`);
    tensors.push({ name, dtype, shape, data: payload.subarray(offset, offset + bytes) });
    end = offset + bytes;
  }
  if (end !== payload.byteLength)
    throw new FrameError(
      "FRAME_TENSOR_INVALID",
      `expected the payload to end after its last tensor at ${end} bytes, got ${payload.byteLength}`,
    );
  return tensors;
}

export function assemble(prefix: Prefix, header: Uint8Array, payload: Uint8Array): Frame {
  const message = readMessage(header.subarray(0, prefix.headerBytes), header.subarray(prefix.headerBytes));
  const descriptors = readDescriptors(message, prefix.tensorCount);
  return { message, descriptors, tensors: readTensors(descriptors, payload) };
}

/** Decodes one whole frame, as a WebSocket message brings it. Throws FrameError. Tensor data is copied only when the buffer is not 8-byte aligned. */
export function decodeFrame(given: Uint8Array, limits: FrameLimits = defaultFrameLimits): Frame {
  // Node's Buffer is a Uint8Array whose slice() copies nothing: tensors must be plain ones.
  const bytes = new Uint8Array(given.buffer, given.byteOffset, given.byteLength);
  if (bytes.byteLength < prefixBytes)
    throw new FrameError("FRAME_TRUNCATED", `expected at least ${prefixBytes} bytes, got ${bytes.byteLength}`);
  const prefix = readPrefix(bytes, limits);
  if (bytes.byteLength !== prefix.totalBytes)
    throw new FrameError("FRAME_TRUNCATED", `expected a frame of ${prefix.totalBytes} bytes, got ${bytes.byteLength}`);
  const payload = bytes.subarray(prefix.payloadStart);
  return assemble(prefix, bytes.subarray(prefixBytes, prefix.payloadStart), payload.byteOffset % 8 === 0 ? payload : payload.slice());
}

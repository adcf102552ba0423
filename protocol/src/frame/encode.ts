// Message and tensors to bytes.

import { isObject, maxTensors, prefixBytes, roundUp, tensorBytes, version } from "./layout.ts";
import type { FrameTensor, JsonObject, TensorDescriptor } from "./layout.ts";

/** The message with `tensors` put into its result or params. For a text message whose tensors all lie in segments; frames do it themselves. */
export function withDescriptors(message: JsonObject, descriptors: readonly TensorDescriptor[]): JsonObject {
  const place = "result" in message ? "result" : "params";
  const inner = message[place] ?? {};
  if (!isObject(inner)) throw new TypeError(`expected an object in "${place}" of a message with tensors`);
  return { ...message, [place]: { ...inner, tensors: descriptors } };
}

/**
 * Encodes a frame as parts to be written in order (large tensors are not copied).
 * `segments` are descriptors of tensors that lie in shared segments; they come first in `tensors` of the message.
 * Throws TypeError for a programmer's mistake: wrong byte count, too many tensors, message without an object to hold them.
 */
export function encodeFrameParts(
  message: JsonObject,
  tensors: readonly FrameTensor[] = [],
  segments: readonly TensorDescriptor[] = [],
): Uint8Array[] {
  if (tensors.length + segments.length > maxTensors)
    throw new TypeError(`expected at most ${maxTensors} tensors in a frame, got ${tensors.length + segments.length}`);
  const descriptors: TensorDescriptor[] = [...segments];
  const payload: Uint8Array[] = [];
  let end = 0;
  for (const { name, dtype, shape, data } of tensors) {
    if (tensorBytes(dtype, shape) !== data.byteLength) {
      throw new TypeError(
        `expected tensor ${name} (${dtype} [${shape.join(", ")}]) to have ${tensorBytes(dtype, shape)} bytes, got ${data.byteLength}`,
      );
    }
    const offset = roundUp(end);
    if (offset > end) payload.push(new Uint8Array(offset - end));
    payload.push(data);
    descriptors.push({ name, dtype, shape, offset, bytes: data.byteLength });
    end = offset + data.byteLength;
  }
  const json = new TextEncoder().encode(JSON.stringify(descriptors.length > 0 ? withDescriptors(message, descriptors) : message));
  const head = new Uint8Array(prefixBytes + roundUp(json.byteLength));
  const view = new DataView(head.buffer);
  head.set([0x52, 0x46, 0x54, 0x31, version, 0]); // "RFT1"
  view.setUint16(6, descriptors.length, true);
  view.setUint32(8, json.byteLength, true);
  view.setBigUint64(16, BigInt(end), true);
  head.set(json, prefixBytes);
  return [head, ...payload];
}

/** The same as one buffer, for a WebSocket message. */
export function encodeFrame(
  message: JsonObject,
  tensors: readonly FrameTensor[] = [],
  segments: readonly TensorDescriptor[] = [],
): Uint8Array {
  const parts = encodeFrameParts(message, tensors, segments);
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.byteLength;
  }
  return whole;
}

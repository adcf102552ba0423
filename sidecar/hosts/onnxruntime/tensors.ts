import { native, type FloatDtype } from "@refit-sidecar/native";
import { tensorBytes, type FrameTensor } from "@refit-sidecar/protocol";
import { Tensor, type InferenceSession } from "onnxruntime-node";
import { hostFailure } from "./host-failure.ts";

const floats: Readonly<Record<string, FloatDtype>> = { f32: "F32", f16: "F16", bf16: "BF16" };

/** Float tensors are converted to the float type that the graph wants; other types must match. Throws HOST_INPUT_INVALID. */
export async function toOrt(tensor: FrameTensor, expected: InferenceSession.TensorValueMetadata): Promise<Tensor> {
  const { name, dtype, shape } = tensor;
  const fits = shape.length === expected.shape.length && expected.shape.every((dimension, index) => typeof dimension === "string" || dimension === shape[index]);
  if (!fits) throw hostFailure("HOST_INPUT_INVALID", `expected input ${name} of shape [${expected.shape.join(", ")}], got [${shape.join(", ")}]`, { name, expected: expected.shape, got: shape });
  const count = shape.reduce((product, dimension) => product * dimension, 1);
  const data = aligned(tensor.data);
  if (expected.type === "int64" && dtype === "i64") return new Tensor("int64", new BigInt64Array(data.buffer, data.byteOffset, count), shape);
  if (expected.type === "uint8" && dtype === "u8") return new Tensor("uint8", data, shape);
  const from = floats[dtype];
  if (from !== undefined && (expected.type === "float32" || expected.type === "float16")) {
    const to = expected.type === "float32" ? "F32" : "F16";
    const bytes = from === to ? data : await converted(data, from, to, count);
    return to === "F32" ? new Tensor("float32", new Float32Array(bytes.buffer, bytes.byteOffset, count), shape) : new Tensor("float16", new Uint16Array(bytes.buffer, bytes.byteOffset, count), shape);
  }
  throw hostFailure("HOST_INPUT_INVALID", `expected input ${name} to be ${expected.type}, got ${dtype}`, { name, expected: expected.type, got: dtype });
}

async function converted(data: Uint8Array, from: FloatDtype, to: FloatDtype, count: number): Promise<Uint8Array> {
  const out = new Uint8Array(count * (to === "F32" ? 4 : 2));
  await native.convert(data, from, out, to, count);
  return out;
}

/** Typed arrays need a start that is a multiple of their element size. */
function aligned(data: Uint8Array): Uint8Array {
  return data.byteOffset % 8 === 0 ? data : data.slice();
}

/** An output of the graph as it travels in a frame; the data is not copied. */
export function toFrame(name: string, value: Tensor | undefined): FrameTensor {
  const dtype = value?.type === "float32" ? "f32" : value?.type === "float16" ? "f16" : value?.type === "int64" ? "i64" : null;
  if (value === undefined || dtype === null) throw hostFailure("HOST_STEP_FAILED", `expected output ${name} to be float32, float16 or int64, got ${value?.type ?? "nothing"}`, { name });
  const view = value.data;
  if (!ArrayBuffer.isView(view)) throw hostFailure("HOST_STEP_FAILED", `expected output ${name} in main memory`, { name });
  const data = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  if (data.byteLength !== tensorBytes(dtype, value.dims)) throw hostFailure("HOST_STEP_FAILED", `output ${name} has ${data.byteLength} bytes for shape [${value.dims.join(", ")}]`, { name });
  return { name, dtype, shape: value.dims, data };
}

import { tensorBytes, type FrameTensor } from "@refit-sidecar/protocol";
import { Tensor } from "onnxruntime-node";
import { hostFailure } from "../host-failure.ts";
import type { ReadyInput } from "./messages.ts";

export function toTensor({ type, shape, data }: ReadyInput): Tensor {
  switch (type) {
    case "float32":
      return new Tensor("float32", new Float32Array(data.buffer, data.byteOffset, data.byteLength / 4), shape);
    case "float16":
      return new Tensor("float16", new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2), shape);
    case "int64":
      return new Tensor("int64", new BigInt64Array(data.buffer, data.byteOffset, data.byteLength / 8), shape);
    case "uint8":
      return new Tensor("uint8", data, shape);
  }
}

/** An output of the graph as it travels in a frame, copied out of ONNX Runtime's memory so that it can change threads. */
export function toFrame(name: string, value: Tensor | undefined): FrameTensor {
  const dtype = value?.type === "float32" ? "f32" : value?.type === "float16" ? "f16" : value?.type === "int64" ? "i64" : null;
  if (value === undefined || dtype === null)
    throw hostFailure("HOST_STEP_FAILED", `expected output ${name} to be float32, float16 or int64, got ${value?.type ?? "nothing"}`, {
      name,
    });
  const view = value.data;
  if (!ArrayBuffer.isView(view)) throw hostFailure("HOST_STEP_FAILED", `expected output ${name} in main memory`, { name });
  const data = new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice();
  if (data.byteLength !== tensorBytes(dtype, value.dims))
    throw hostFailure("HOST_STEP_FAILED", `output ${name} has ${data.byteLength} bytes for shape [${value.dims.join(", ")}]`, { name });
  return { name, dtype, shape: value.dims, data };
}

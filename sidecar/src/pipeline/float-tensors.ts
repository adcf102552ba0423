// Floating-point tensors as numbers and back, through the one converter.

import { native } from "@refit-sidecar/native";
import type { FrameTensor } from "@refit-sidecar/protocol";
import { Failure } from "../failure/index.ts";
import { asBytes, elements } from "../terms/index.ts";

const containers = { f32: "F32", f16: "F16", bf16: "BF16" } as const;
type Float = keyof typeof containers;

export const isFloat = (dtype: string): dtype is Float => Object.hasOwn(containers, dtype);

/** Bytes of these values in a tensor's type. */
export async function bytesAs(values: Float32Array, dtype: FrameTensor["dtype"]): Promise<Uint8Array> {
  if (dtype === "i64") return new Uint8Array(BigInt64Array.from(values, (value) => BigInt(Math.trunc(value))).buffer);
  if (!isFloat(dtype) || dtype === "f32") return asBytes(values);
  const data = new Uint8Array(values.length * 2);
  await native.convert(asBytes(values), "F32", data, containers[dtype], values.length);
  return data;
}

/** A copy of a tensor's values. Throws STEP_FAILED for one that is no float. */
export async function valuesOf(tensor: FrameTensor | undefined): Promise<Float32Array> {
  const dtype = tensor?.dtype ?? "none";
  if (tensor === undefined || !isFloat(dtype)) throw new Failure("STEP_FAILED", "expected a floating-point output of the step", { dtype });
  const values = new Float32Array(elements(tensor.shape));
  // A view of a message may begin anywhere: numbers are read from a place of their own.
  await native.convert(Uint8Array.from(tensor.data), containers[dtype], asBytes(values), "F32", values.length);
  return values;
}

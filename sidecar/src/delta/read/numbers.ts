// Small tensors read as numbers: alpha, reshape_weight, on_input.

import type { Kernels, TensorEntry, TensorFile } from "@refit-sidecar/native";
import { numberSuffixes } from "../../terms/index.ts";
import type { AdapterTensor, AdapterTensors } from "../recognise/tensors.ts";

/** More values than any of these tensors can have; a bigger one is malformed and stays unread. */
const mostValues = 8;

/** Every tensor of the file for the recogniser, with the values of the small ones. */
export async function readAdapterTensors(file: TensorFile, kernels: Kernels): Promise<AdapterTensors> {
  const tensors = new Map<string, AdapterTensor>();
  for (const [key, entry] of file.header.entries) {
    const { dtype, shape } = entry;
    const small = numberSuffixes.some((suffix) => key.endsWith(suffix));
    tensors.set(key, { key, dtype, shape, ...(small ? { numbers: await readNumbers(file, entry, kernels) } : {}) });
  }
  return tensors;
}

async function readNumbers(file: TensorFile, entry: TensorEntry, kernels: Kernels): Promise<readonly number[]> {
  const count = entry.shape.reduce((product, dim) => product * dim, 1);
  // A placeholder of the true length: the recogniser refuses it by its length.
  if (count > mostValues) return new Array<number>(count > 1_000_000 ? mostValues + 1 : count).fill(0);
  const bytes = await file.read(entry.name);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const each = <T>(size: number, read: (at: number) => T): T[] => Array.from({ length: count }, (_, index) => read(index * size));
  switch (entry.dtype) {
    case "F64": return each(8, (at) => view.getFloat64(at, true));
    case "F32": return each(4, (at) => view.getFloat32(at, true));
    case "I64": return each(8, (at) => Number(view.getBigInt64(at, true)));
    case "U64": return each(8, (at) => Number(view.getBigUint64(at, true)));
    case "I32": return each(4, (at) => view.getInt32(at, true));
    case "U32": return each(4, (at) => view.getUint32(at, true));
    case "I16": return each(2, (at) => view.getInt16(at, true));
    case "U16": return each(2, (at) => view.getUint16(at, true));
    case "I8": return each(1, (at) => view.getInt8(at));
    case "U8":
    case "BOOL": return each(1, (at) => view.getUint8(at));
    case "F16":
    case "BF16":
    case "F8_E4M3":
    case "F8_E5M2": {
      const values = new Float32Array(count);
      await kernels.convert(bytes, entry.dtype, new Uint8Array(values.buffer), "F32", count);
      return [...values];
    }
  }
}

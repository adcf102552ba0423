// Small tensors read as numbers: alpha, reshape_weight, on_input.

import pLimit from "p-limit";
import type { Kernels, TensorEntry, TensorFile } from "@refit-sidecar/native";
import { elements, numberSuffixes } from "../../terms/index.ts";
import type { AdapterTensor, AdapterTensors } from "../recognise/tensors.ts";

/** More values than any of these tensors can have; a bigger one is malformed and stays unread. */
const mostValues = 8;

/** A thousand reads of four bytes: the wait is for the thread pool, not for the disk. */
const smallReads = 16;

/** Every tensor of the file for the recogniser, with the values of the small ones. */
export async function readAdapterTensors(file: TensorFile, kernels: Kernels): Promise<AdapterTensors> {
  const entries = [...file.header.entries.values()];
  const small = entries.filter(({ name }) => numberSuffixes.some((suffix) => name.endsWith(suffix)));
  const limit = pLimit(smallReads);
  const numbers = new Map(
    await Promise.all(small.map((entry) => limit(async () => [entry.name, await readNumbers(file, entry, kernels)] as const))),
  );
  return new Map(
    entries.map(({ name, dtype, shape }): [string, AdapterTensor] => {
      const values = numbers.get(name);
      return [name, { key: name, dtype, shape, ...(values ? { numbers: values } : {}) }];
    }),
  );
}

async function readNumbers(file: TensorFile, entry: TensorEntry, kernels: Kernels): Promise<readonly number[] | undefined> {
  const count = elements(entry.shape);
  // A placeholder of the true length: the recogniser refuses it by its length.
  if (count > mostValues) return new Array<number>(count > 1_000_000 ? mostValues + 1 : count).fill(0);
  const bytes = await file.read(entry.name);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const each = <T>(size: number, read: (at: number) => T): T[] => Array.from({ length: count }, (_, index) => read(index * size));
  switch (entry.dtype) {
    case "F64":
      return each(8, (at) => view.getFloat64(at, true));
    case "F32":
      return each(4, (at) => view.getFloat32(at, true));
    case "I64":
      return each(8, (at) => Number(view.getBigInt64(at, true)));
    case "U64":
      return each(8, (at) => Number(view.getBigUint64(at, true)));
    case "I32":
      return each(4, (at) => view.getInt32(at, true));
    case "U32":
      return each(4, (at) => view.getUint32(at, true));
    case "I16":
      return each(2, (at) => view.getInt16(at, true));
    case "U16":
      return each(2, (at) => view.getUint16(at, true));
    case "I8":
      return each(1, (at) => view.getInt8(at));
    case "U8":
    case "BOOL":
      return each(1, (at) => view.getUint8(at));
    case "F8_E8M0":
      return each(1, (at) => powerOfTwo(view.getUint8(at)));
    case "F16":
    case "BF16":
    case "F8_E4M3":
    case "F8_E5M2": {
      const values = new Float32Array(count);
      await kernels.convert(bytes, entry.dtype, new Uint8Array(values.buffer), "F32", count);
      return [...values];
    }
    // No writer keeps a scalar in them; the recogniser names what needs a number and has none.
    case "F8_E4M3FNUZ":
    case "F8_E5M2FNUZ":
    case "F6_E2M3":
    case "F6_E3M2":
    case "F4":
    case "C64":
      return undefined;
  }
}

/** F8_E8M0: an exponent alone; 255 is no number. */
const powerOfTwo = (code: number): number => (code === 255 ? NaN : 2 ** (code - 127));

import type { Dtype, FloatDtype } from "./api.ts";

/** Bytes per element; a fraction where several elements share a byte. A dtype added to the union without a row here does not compile. */
export const dtypeBytes: Readonly<Record<Dtype, number>> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  F8_E4M3FNUZ: 1,
  F8_E5M2FNUZ: 1,
  F6_E2M3: 0.75,
  F6_E3M2: 0.75,
  F4: 0.5,
  C64: 8,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  I64: 8,
  U64: 8,
  F64: 8,
};

export function isDtype(text: string): text is Dtype {
  return Object.hasOwn(dtypeBytes, text);
}

const floatDtypes: ReadonlySet<Dtype> = new Set<FloatDtype>(["F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2"]);

export function isFloatDtype(dtype: Dtype): dtype is FloatDtype {
  return floatDtypes.has(dtype);
}

// Checked tensor files and weight arithmetic. In: paths, bytes and typed arrays. Out: headers, tensors, merged weights, written files.
// Backed by the C++ addon, or by TypeScript where it is not built; `native.kind` and `native.detail` say which and why.
// Must never: know about adapters, engines or the wire; map a file into memory; believe a size that the file does not back.

import { loadNative } from "./load.ts";

export type * from "./api.ts";
export { dtypeBytes, isDtype, isFloatDtype } from "./dtypes.ts";
export { SafetensorsError } from "./errors.ts";
export { replaceFile } from "./write/replace-file.ts";
export { writeSafetensors, type TensorSource, type WriteOptions } from "./write/write-safetensors.ts";

/** Chosen once per process. REFIT_NATIVE=off forces the TypeScript fallback. */
export const native = loadNative(process.env);

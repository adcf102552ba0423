import type { SafetensorsErrorCode, TensorEntry } from "../api.ts";
import { SafetensorsError } from "../errors.ts";
import type { ParsedHeader } from "../fallback/parse-header.ts";
import type { HeaderParser } from "../file/read-header.ts";
import { containerDtypes, type RawAddon, type RawFault, type RawHeader } from "./binding.ts";

/** The C++ header check (src/container/header.cpp): same rules and codes as fallback/parse-header.ts. */
export function addonHeaderParser(addon: RawAddon): HeaderParser {
  return async (header, dataBytes, file) => {
    const parsed = await addon.parseHeader(header, dataBytes);
    if ("code" in parsed) throw toError(parsed, file);
    return toHeader(parsed);
  };
}

function toError(fault: RawFault, file: string): SafetensorsError {
  // The addon's codes are literals in header.cpp; test/native compares every one with the fallback's.
  return new SafetensorsError(fault.code as SafetensorsErrorCode, file, fault.problem, fault.tensor === null ? {} : { tensor: fault.tensor });
}

function toHeader(raw: RawHeader): ParsedHeader {
  const entries = new Map<string, TensorEntry>();
  let at = 0;
  const next = (): number => raw.numbers[at++] ?? 0;
  for (const [index, name] of raw.names.entries()) {
    const begin = next();
    const end = next();
    const shape = new Array<number>(next());
    for (let i = 0; i < shape.length; i++) shape[i] = next();
    entries.set(name, { name, dtype: containerDtypes[raw.dtypes[index] ?? 0] ?? "U8", shape, begin, end });
  }
  // No prototype, so a key such as `__proto__` is a key.
  const metadata = Object.create(null) as Record<string, string>;
  for (let i = 0; i + 1 < raw.metadata.length; i += 2) metadata[raw.metadata[i] ?? ""] = raw.metadata[i + 1] ?? "";
  return { entries, metadata };
}

import type { SafetensorsErrorCode } from "../api.ts";
import { SafetensorsError } from "../errors.ts";
import type { ParsedHeader } from "../fallback/parse-header.ts";
import type { HeaderParser, SyncHeaderParser } from "../file/read-header.ts";
import type { RawAddon, RawFault, RawHeader } from "./binding.ts";
import { TensorTable } from "./tensor-table.ts";

/** The C++ header check (src/container/header.cpp): same rules and codes as fallback/parse-header.ts. */
export function addonHeaderParser(addon: RawAddon): HeaderParser {
  return async (header, dataBytes, file) => checked(await addon.parseHeader(header, dataBytes), file);
}

export function addonSyncHeaderParser(addon: RawAddon): SyncHeaderParser {
  return (header, dataBytes, file) => checked(addon.parseHeaderSync(header, dataBytes), file);
}

function checked(parsed: RawHeader | RawFault, file: string): ParsedHeader {
  if ("code" in parsed) throw toError(parsed, file);
  return toHeader(parsed);
}

function toError(fault: RawFault, file: string): SafetensorsError {
  // The addon's codes are literals in header.cpp; test/native compares every one with the fallback's.
  return new SafetensorsError(
    fault.code as SafetensorsErrorCode,
    file,
    fault.problem,
    fault.tensor === null ? {} : { tensor: fault.tensor },
  );
}

function toHeader(raw: RawHeader): ParsedHeader {
  // No prototype, so a key such as `__proto__` is a key.
  const metadata = Object.create(null) as Record<string, string>;
  for (let i = 0; i + 1 < raw.metadata.length; i += 2) metadata[raw.metadata[i] ?? ""] = raw.metadata[i + 1] ?? "";
  return { entries: new TensorTable(raw), metadata };
}

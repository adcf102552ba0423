import type { Native } from "./api.ts";
import { fallbackKernels } from "./fallback/kernels.ts";
import { parseHeader } from "./fallback/parse-header.ts";
import { openWithHeader, type HeaderParser } from "./file/read-header.ts";
import { openTensorFile } from "./file/tensor-file.ts";

/** Chooses the implementation once; `detail` says which and why. */
export function loadNative(environment: Readonly<Record<string, string | undefined>>): Native {
  const reason = environment["REFIT_NATIVE"] === "off" ? "REFIT_NATIVE=off" : "the addon is not built";
  return withFiles(fallbackKernels(`TypeScript fallback: ${reason}`), parseHeader);
}

function withFiles(kernels: ReturnType<typeof fallbackKernels>, parse: HeaderParser): Native {
  return {
    ...kernels,
    async readHeader(path) {
      const { handle, header } = await openWithHeader(path, parse);
      await handle.close();
      return header;
    },
    openTensorFile: (path) => openTensorFile(path, parse),
  };
}

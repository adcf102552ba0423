import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

import { checkAddon, type RawAddon } from "./addon/binding.ts";
import { addonKernels } from "./addon/kernels.ts";
import { addonHeaderParser, addonSyncHeaderParser } from "./addon/parse-header.ts";
import type { Kernels, Native } from "./api.ts";
import { fallbackKernels } from "./fallback/kernels.ts";
import { parseHeader } from "./fallback/parse-header.ts";
import { openWithHeader, type HeaderParser, type SyncHeaderParser } from "./file/read-header.ts";
import { readHeaderSync } from "./file/read-header-sync.ts";
import { openTensorFile } from "./file/tensor-file.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** Chooses the addon or the fallback; `detail` says which and why, and is printed on stderr when REFIT_DEBUG is set. */
export function loadNative(environment: Environment): Native {
  const native = choose(environment);
  if (environment["REFIT_DEBUG"]) process.stderr.write(`refit-sidecar: native: ${native.detail}\n`);
  return native;
}

function choose(environment: Environment): Native {
  if (environment["REFIT_NATIVE"] === "off") return fallback("REFIT_NATIVE=off");
  try {
    const { addon, origin } = requireAddon();
    return withFiles(
      addonKernels(addon, `addon (${origin}), ${addon.simd}, ${addon.threads} threads`),
      addonHeaderParser(addon),
      addonSyncHeaderParser(addon),
    );
  } catch (error) {
    return fallback(error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error));
  }
}

interface FoundAddon {
  readonly addon: RawAddon;
  /** For people: this computer's own build, or the one that a package brought. */
  readonly origin: string;
}

/** Looks in `build/Release`, then in `prebuilds/<platform>-<arch>`. */
function requireAddon(): FoundAddon {
  const require = createRequire(import.meta.url);
  const finder = require("node-gyp-build") as { readonly path?: unknown };
  if (typeof finder.path !== "function") throw new Error("node-gyp-build is not installed");
  const file: unknown = finder.path(fileURLToPath(new URL("..", import.meta.url)));
  if (typeof file !== "string") throw new Error("node-gyp-build named no file");
  const prebuilt = /[\\/]prebuilds[\\/]([^\\/]+)[\\/][^\\/]+$/.exec(file);
  return { addon: checkAddon(require(file)), origin: prebuilt === null ? "built here" : `prebuilt for ${prebuilt[1]}` };
}

function fallback(reason: string): Native {
  return withFiles(fallbackKernels(`TypeScript fallback: ${reason}`), parseHeader, parseHeader);
}

function withFiles(kernels: Kernels, parse: HeaderParser, parseSync: SyncHeaderParser): Native {
  return {
    ...kernels,
    async readHeader(path) {
      const { handle, header } = await openWithHeader(path, parse);
      await handle.close();
      return header;
    },
    readHeaderSync: (path) => readHeaderSync(path, parseSync),
    openTensorFile: (path) => openTensorFile(path, parse),
  };
}

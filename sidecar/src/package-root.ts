// Where this package lies, whether its TypeScript or its built files run.

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

function findRoot(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    if (existsSync(join(folder, "bin", "refit-sidecar.mjs"))) return folder;
    if (folder === dirname(folder))
      throw new Error("the refit-sidecar package is not whole: bin/refit-sidecar.mjs was not found above its own code; install it again");
  }
}

/** Folder of the package: graphs/, demo/, hosts/ and dist/ lie in it. */
export const packageRoot = findRoot();

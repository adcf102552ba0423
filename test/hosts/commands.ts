// How tests start hosts.

import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { testPython } from "../../tools/python-env.mjs";
import { hugePages, type HostCommand } from "../../sidecar/src/host/index.ts";

const built = fileURLToPath(new URL("../../sidecar/dist/hosts/onnxruntime/main.js", import.meta.url));

/** The embedded host, from the build: a child process cannot run TypeScript sources on Node 20. */
export function onnxruntimeHost(...args: string[]): HostCommand {
  if (!existsSync(built)) throw new Error("the host is not built; run `npm run build` first");
  return { kind: "onnxruntime", command: process.execPath, args: [built, ...args], env: hugePages() };
}

const root = fileURLToPath(new URL("../../", import.meta.url));

/** The torch host on this computer's CPU. */
export const torchHost = (...args: string[]): HostCommand => ({
  kind: "torch",
  command: testPython(root),
  args: ["-m", "refit_host", "--kind", "torch", "--device", "cpu", ...args],
  env: { PYTHONPATH: fileURLToPath(new URL("../../sidecar/hosts/python", import.meta.url)), OMP_NUM_THREADS: "1" },
});

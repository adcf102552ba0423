// The tensorrt host on the simulated library and GPU of test/python/simulation.

import { fileURLToPath } from "node:url";
import { testPython } from "../../tools/python-env.mjs";
import type { HostCommand } from "../../sidecar/src/host/index.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const at = (relative: string): string => fileURLToPath(new URL(`../../${relative}`, import.meta.url));

export interface Simulated {
  /** Where engines are kept; without one every load builds and checks an engine anew. */
  readonly store?: string;
  /** Folder with `refit_tensorrt`, `refit_host` and `refit_graphs`; a mutation test gives a copy with a bug in it. */
  readonly packages?: string;
  /** SIM_* variables of the simulation. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly args?: readonly string[];
}

export function simulatedTensorrt({ store, packages = at("sidecar/hosts/python"), settings = {}, args = [] }: Simulated = {}): HostCommand {
  return {
    kind: "tensorrt",
    command: testPython(root),
    args: [
      at("test/python/simulation/host.py"),
      "--kind",
      "tensorrt",
      "--device",
      "cpu",
      ...(store === undefined ? [] : ["--store", store]),
      ...args,
    ],
    env: { PYTHONPATH: packages, OMP_NUM_THREADS: "1", ...settings },
  };
}

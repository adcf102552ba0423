// A Python that can run the modules of hosts/python: an interpreter, and folders whose packages go before its own.

import { delimiter, join } from "node:path";
import { packageRoot } from "../package-root.ts";

export interface HostPython {
  readonly python: string;
  /** Folders with packages that the interpreter does not have itself, first one first. */
  readonly paths: readonly string[];
}

export interface PythonRun {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** How to run `python -m module args`, also for an embedded Python, which ignores PYTHONPATH. Children that a library starts get the same packages. */
export function pythonRun({ python, paths }: HostPython, module: string, args: readonly string[] = []): PythonRun {
  const folder = join(packageRoot, "hosts", "python");
  return {
    command: python,
    args: [join(folder, "launch.py"), module, ...args],
    env: {
      REFIT_PYTHON_PATH: paths.join(delimiter),
      PYTHONPATH: [folder, ...paths].join(delimiter),
      PYTHONUNBUFFERED: "1",
      // Nothing of ours is written among the packages of another program, bytecode included.
      ...(paths.length > 0 ? { PYTHONDONTWRITEBYTECODE: "1" } : {}),
    },
  };
}

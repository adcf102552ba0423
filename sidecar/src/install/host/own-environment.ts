import { existsSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Failure } from "../../failure/index.ts";
import { pipInstall } from "./pip.ts";
import type { PipRun } from "./pip.ts";
import { runScript } from "./run-python.ts";
import type { PythonFacts } from "./types.ts";

/** Says that the environment itself is whole, so that a second run may go on in it. */
const readyName = "environment-ready";

export const environmentPython = (folder: string): string =>
  join(folder, "venv", ...(process.platform === "win32" ? ["Scripts", "python.exe"] : ["bin", "python"]));

async function guarded(python: string, args: readonly string[], { signal }: PipRun): Promise<void> {
  const { code, tail } = await runScript(python, "guarded", args, signal ? { signal } : {});
  if (code === 0) return;
  throw new Failure(
    "INSTALL_NO_VENV",
    `expected ${args[0]} to make an environment; it ended with ${code ?? "a signal"}. Debian and Ubuntu: apt install python3-venv. It said:\n  ${tail.slice(-6).join("\n  ")}`,
    { code },
  );
}

/** An environment of its own in `folder`, with the requirements. Goes on where an earlier run was cut short. Throws INSTALL_NO_VENV and what pip throws. */
export async function makeOwn(folder: string, base: PythonFacts, requirements: readonly string[], options: PipRun): Promise<string> {
  const python = environmentPython(folder);
  const ready = join(folder, readyName);
  if (existsSync(ready)) {
    const { code, stdout } = await runScript(python, "repair", [], options.signal ? { signal: options.signal } : {});
    if (code === 0)
      options.told(
        `going on in the environment that is there${stdout.includes("dist-info") ? "; half-installed packages are installed again" : ""}`,
      );
  } else {
    options.told(`making an environment with Python ${base.version.join(".")}`);
    await rm(join(folder, "venv"), { recursive: true, force: true });
    await guarded(base.executable, ["venv", "--without-pip", join(folder, "venv")], options);
    await guarded(python, ["ensurepip", "--default-pip"], options);
    await writeFile(ready, "", { flush: true });
  }
  await pipInstall(python, requirements, options);
  return python;
}

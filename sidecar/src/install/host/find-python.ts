import { delimiter } from "node:path";
import { Failure } from "../../failure/index.ts";
import { runScript } from "./run-python.ts";
import type { PythonFacts } from "./types.ts";

/** The oldest that the host's code is written for. What the pinned packages ask beyond it is pip's to say. */
const oldest = [3, 10] as const;
const versionsOfWindowsLauncher = ["3.13", "3.12", "3.11", "3.10"];

/** What a Python says about itself; null when it cannot be asked. Throws only the reason of `signal`. */
export async function pythonFacts(python: string, paths: readonly string[] = [], signal?: AbortSignal): Promise<PythonFacts | null> {
  try {
    const { code, stdout } = await runScript(python, "facts", [], {
      ...(signal ? { signal } : {}),
      env: paths.length === 0 ? {} : { PYTHONPATH: paths.join(delimiter) },
    });
    return code === 0 ? (JSON.parse(stdout) as PythonFacts) : null;
  } catch (error) {
    if (signal?.aborted === true) throw error;
    return null;
  }
}

/** Why a Python cannot be used; null when it can. */
export function whyUnfit(facts: PythonFacts | null): string | null {
  if (facts === null) return "it could not be started";
  const [major, minor] = facts.version;
  if (major !== oldest[0] || minor < oldest[1]) return `it is Python ${facts.version.join(".")}, older than ${oldest.join(".")}`;
  return facts.bits === 64 ? null : "it is a 32-bit Python; PyTorch has 64-bit builds only";
}

/** A Python to make an environment from: the given one, or the first fit one on PATH. Throws INSTALL_NO_PYTHON and INSTALL_NO_VENV. */
export async function findPython(given: string | null, signal?: AbortSignal): Promise<PythonFacts> {
  const candidates =
    given !== null
      ? [given]
      : process.platform === "win32"
        ? ["python", "python3", ...versionsOfWindowsLauncher.map((version) => `python${version}`)]
        : ["python3", "python3.13", "python3.12", "python3.11", "python3.10", "python"];
  const refused: string[] = [];
  let withoutVenv: PythonFacts | null = null;
  for (const candidate of candidates) {
    const facts = await pythonFacts(candidate, [], signal);
    const unfit = whyUnfit(facts);
    if (facts !== null && unfit === null) {
      if (facts.venv) return facts;
      withoutVenv ??= facts;
    } else if (facts !== null || given !== null) refused.push(`${candidate}: ${unfit ?? ""}`);
  }
  if (withoutVenv !== null) {
    throw new Failure(
      "INSTALL_NO_VENV",
      `expected a Python with the modules venv and ensurepip; ${withoutVenv.executable} (${withoutVenv.version.join(".")}) lacks them. Debian and Ubuntu: apt install python3-venv. An embedded Python has none: give its path with --reuse, or another Python with --python`,
      { version: withoutVenv.version },
    );
  }
  throw new Failure(
    "INSTALL_NO_PYTHON",
    `expected Python ${oldest.join(".")} or newer${given === null ? " on PATH; none was found" : ""}${refused.length > 0 ? ` (${refused.join("; ")})` : ""}. Install one from python.org or the system's packages, or name one with --python`,
    { candidates },
  );
}

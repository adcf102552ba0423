import { rm, readFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { Failure } from "../../failure/index.ts";
import { runScript } from "./run-python.ts";
import type { PipSources, PythonFacts, Told } from "./types.ts";

/** How pip is run for a Python: its own, or another one's with `--python`. */
export interface Pip {
  readonly python: string;
  readonly before: readonly string[];
  /** Folders whose packages count as present. */
  readonly paths: readonly string[];
}

export interface PipRun {
  readonly sources: PipSources;
  readonly told: Told;
  readonly signal: AbortSignal | undefined;
}

/** Lines of pip that show that it moves. */
const progress =
  /^\s*(Collecting|Downloading|Using cached|Installing collected packages|Successfully installed|Would install|Processing|ERROR)/;
const offline =
  /(name resolution|getaddrinfo|Network is unreachable|Failed to establish a new connection|Connection refused|Max retries exceeded|ProxyError|timed out|NewConnectionError|SSLError)/i;
const noSpace = /(No space left on device|Errno 28|not enough space on the disk|WinError 112)/i;
const notFound = /(No matching distribution found|Could not find a version that satisfies)/;
const shownLines = 6;

/** Wheels only: no code of a package runs while it is installed. */
const always = ["--disable-pip-version-check", "--no-input", "--only-binary", ":all:", "--progress-bar", "off"];

const sourceArgs = ({ indexUrl, extraIndexUrls, findLinks, noIndex }: PipSources): string[] => [
  ...(noIndex ? ["--no-index"] : []),
  ...(indexUrl === null ? [] : ["--index-url", indexUrl]),
  ...extraIndexUrls.flatMap((url) => ["--extra-index-url", url]),
  ...findLinks.flatMap((place) => ["--find-links", place]),
];

/** An index's address may hold a user name and a password. */
const withoutSecrets = (text: string): string => text.replaceAll(/\/\/[^/@\s]+@/g, "//");

function failed(tail: readonly string[], code: number | null): Failure {
  const lines = tail.map(withoutSecrets).filter((line) => line.trim() !== "");
  const text = lines.join("\n");
  const said = lines
    .filter((line) => !/^(WARNING|\[notice\])/.test(line))
    .slice(-shownLines)
    .join("\n  ");
  const evidence = { code, tail: lines };
  if (noSpace.test(text))
    return new Failure(
      "INSTALL_NO_SPACE",
      `expected room on the disk; pip ran out of it. Free some, or choose another --data-dir. pip said:\n  ${said}`,
      evidence,
    );
  if (offline.test(text))
    return new Failure(
      "INSTALL_OFFLINE",
      `expected to reach the package index; pip could not. Check network and proxy, or install from a folder of wheels: --find-links DIR --no-index. What was downloaded is kept, and the same command goes on from there. pip said:\n  ${said}`,
      evidence,
    );
  if (notFound.test(text))
    return new Failure(
      "INSTALL_NO_WHEEL",
      `expected wheels of the pinned versions for this Python and platform where pip looks; one is missing. Try another Python (--python), or another index (--index-url). pip said:\n  ${said}`,
      evidence,
    );
  return new Failure(
    "INSTALL_PIP_FAILED",
    `expected pip to succeed; it ended with ${code ?? "a signal"}. The same command goes on from what is there. pip said:\n  ${said}`,
    evidence,
  );
}

async function run(pip: Pip, args: readonly string[], { sources, told, signal }: PipRun): Promise<void> {
  const onLine = (line: string): void => {
    if (progress.test(line)) told(withoutSecrets(line.trim()));
  };
  const { code, tail } = await runScript(
    pip.python,
    "guarded",
    ["pip", ...pip.before, "install", ...always, ...sourceArgs(sources), ...args],
    { onLine, ...(signal ? { signal } : {}), ...(pip.paths.length > 0 ? { env: { PYTHONPATH: pip.paths.join(delimiter) } } : {}) },
  );
  if (code !== 0) throw failed(tail, code);
}

/** Installs into the environment of `python`. Packages that are there in the wanted version are left alone, so a second run goes on where the first one ended. */
export const pipInstall = (python: string, requirements: readonly string[], options: PipRun): Promise<void> =>
  run({ python, before: [], paths: [] }, requirements, options);

/** A package that a resolution would install. */
export interface Resolved {
  readonly name: string;
  readonly version: string;
}

interface PipReport {
  readonly install: readonly { readonly metadata: { readonly name: string; readonly version: string } }[];
}

/** What is missing beside the packages that the Python sees; changes nothing. `constraints` hold what must stay as it is. `scratch` is a folder for two small files. */
export async function resolveMissing(
  pip: Pip,
  requirements: readonly string[],
  constraintFile: string,
  scratch: string,
  options: PipRun,
): Promise<readonly Resolved[]> {
  const report = join(scratch, "report.json");
  await rm(report, { force: true });
  await run(pip, ["--dry-run", "--report", report, "--constraint", constraintFile, ...requirements], options);
  const { install } = JSON.parse(await readFile(report, "utf8")) as PipReport;
  return install.map(({ metadata: { name, version } }) => ({ name: name.toLowerCase().replaceAll(/[-_.]+/g, "-"), version }));
}

/** Exactly these packages, nothing that they need, into a folder. */
export const installInto = (pip: Pip, folder: string, packages: readonly Resolved[], options: PipRun): Promise<void> =>
  run(pip, ["--no-deps", "--target", folder, ...packages.map(({ name, version }) => `${name}==${version}`)], options);

/** First pip with `--report` and `--python`. */
const oldestPip = [22, 3] as const;

/** A pip that works for `facts`: its own, or the helper's. Throws INSTALL_NO_PIP. */
export function pipFor(facts: PythonFacts, helper: PythonFacts | null, paths: readonly string[]): Pip {
  const fit = (version: string | null): boolean => {
    const [major = 0, minor = 0] = (version ?? "0").split(".").map(Number);
    return major > oldestPip[0] || (major === oldestPip[0] && minor >= oldestPip[1]);
  };
  if (fit(facts.pip)) return { python: facts.executable, before: [], paths };
  if (helper !== null && fit(helper.pip)) return { python: helper.executable, before: ["--python", facts.executable], paths };
  throw new Failure(
    "INSTALL_NO_PIP",
    `expected pip ${oldestPip.join(".")} or newer in that Python${facts.pip === null ? "; it has none" : `; it has ${facts.pip}`}, or another Python on PATH whose pip can help out. Install a Python with pip, or leave --reuse out to get an environment of its own`,
    { pip: facts.pip },
  );
}

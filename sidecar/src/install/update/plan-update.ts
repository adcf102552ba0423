import { Failure } from "../../failure/index.ts";
import type { Origin } from "./origin.ts";

/** What replaces the package: a command, or what only the user can do. */
export type UpdatePlan =
  | { readonly command: readonly string[]; readonly cwd: string | null; readonly note: string | null }
  | { readonly command: null; readonly cwd: null; readonly note: string };

const endings: Readonly<Record<Origin["kind"], RegExp>> = { npm: /\.tgz$/i, wheel: /\.whl$/i, archive: /\.zip$/i, checkout: /$^/ };
const named: Readonly<Record<Origin["kind"], string>> = {
  npm: "an npm package (.tgz)",
  wheel: "a wheel (.whl)",
  archive: "a plugin archive (.zip)",
  checkout: "no file: a checkout is updated with git",
};

/**
 * `from`: absolute path of a package file; null: the newest from the registry.
 * `npm`: how npm is run on this computer. Throws Failure CLI_UPDATE_FILE for a file of another kind than what is installed, CLI_UPDATE_PYTHON when the wheel's Python cannot be told.
 */
export function planUpdate(origin: Origin, from: string | null, npm: readonly string[] = ["npm"]): UpdatePlan {
  if (from !== null && !endings[origin.kind].test(from))
    throw new Failure("CLI_UPDATE_FILE", `expected ${named[origin.kind]} for this installation, got ${JSON.stringify(from)}`, {
      kind: origin.kind,
    });
  switch (origin.kind) {
    case "checkout":
      return { command: null, cwd: null, note: 'This is a checkout: run "git pull" and "npm run build" in it.' };
    case "archive":
      return {
        command: null,
        cwd: null,
        note: "The plugin brought this sidecar: update it in ComfyUI's manager, or close the UI, remove the plugin's folder and unpack the newer archive in its place. Your data folder stays.",
      };
    case "wheel":
      if (origin.python === null)
        throw new Failure(
          "CLI_UPDATE_PYTHON",
          'expected to find the Python whose pip installed this package; run "PYTHON -m pip install --upgrade refit-sidecar" with it',
          {},
        );
      return {
        command: [
          origin.python,
          "-m",
          "pip",
          "install",
          "--upgrade",
          ...(from === null ? ["refit-sidecar"] : ["--force-reinstall", "--no-deps", from]),
        ],
        cwd: null,
        note: null,
      };
    case "npm": {
      const what = from ?? "refit-sidecar@latest";
      const quiet = ["--no-audit", "--no-fund"];
      return origin.project === null
        ? { command: [...npm, "install", "--global", "--prefix", origin.prefix, ...quiet, what], cwd: null, note: null }
        : { command: [...npm, "install", ...quiet, what], cwd: origin.project, note: null };
    }
    default:
      return origin satisfies never;
  }
}

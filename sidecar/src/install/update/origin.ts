import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/** What brought this package onto the computer, and so what can replace it. */
export type Origin =
  | { readonly kind: "checkout"; readonly folder: string }
  /** In a UI's folder, around it the plugin. */
  | { readonly kind: "archive"; readonly folder: string }
  /** Data of the Python package `refit_sidecar`; `python`: the one that holds it, null when it cannot be told. */
  | { readonly kind: "wheel"; readonly python: string | null }
  /** `project`: the folder whose node_modules holds it; null: npm's global folder. */
  | { readonly kind: "npm"; readonly project: string | null; readonly prefix: string };

/** Where pip's environment has its Python, from `…/site-packages/refit_sidecar/package`. */
function pythonAbove(packageRoot: string, platform: NodeJS.Platform, exists: (path: string) => boolean): string | null {
  const site = dirname(dirname(packageRoot));
  const candidates =
    platform === "win32"
      ? [join(site, "..", "..", "Scripts", "python.exe"), join(site, "..", "..", "python.exe")]
      : [join(site, "..", "..", "..", "bin", "python3"), join(site, "..", "..", "..", "bin", "python")];
  return candidates.find(exists) ?? null;
}

/** By the places around the package. `environment` is the process's. */
export function originOf(
  packageRoot: string,
  environment: Readonly<Record<string, string | undefined>>,
  platform: NodeJS.Platform = process.platform,
  exists: (path: string) => boolean = existsSync,
): Origin {
  const above = dirname(packageRoot);
  if (exists(join(above, "package-lock.json")) && exists(join(above, "native", "binding.gyp"))) return { kind: "checkout", folder: above };
  if (basename(packageRoot) === "sidecar" && exists(join(above, "refit_sidecar_plugin")) && exists(join(above, "pyproject.toml")))
    return { kind: "archive", folder: above };
  if (basename(packageRoot) === "package" && basename(above) === "refit_sidecar")
    return { kind: "wheel", python: environment["REFIT_WHEEL_PYTHON"] ?? pythonAbove(packageRoot, platform, exists) };
  const project = dirname(above);
  if (basename(above) === "node_modules" && exists(join(project, "package.json"))) return { kind: "npm", project, prefix: project };
  // npm's global folder is PREFIX/lib/node_modules, on Windows PREFIX/node_modules.
  return { kind: "npm", project: null, prefix: platform === "win32" ? project : dirname(project) };
}

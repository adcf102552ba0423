// The data folder of a command: given, named by the environment, or the user's own.

import { homedir } from "node:os";
import { join, resolve } from "node:path";

/** The user's data folder by the platform's custom. */
export function defaultDataDir(
  environment: Readonly<Record<string, string | undefined>> = process.env,
  platform: NodeJS.Platform = process.platform,
): string {
  if (platform === "win32") return join(environment["LOCALAPPDATA"] ?? join(homedir(), "AppData", "Local"), "refit-sidecar");
  if (platform === "darwin") return join(homedir(), "Library", "Application Support", "refit-sidecar");
  return join(environment["XDG_DATA_HOME"] ?? join(homedir(), ".local", "share"), "refit-sidecar");
}

/** An absolute path. */
export function dataDirOf(flags: { readonly dataDir?: string }): string {
  return resolve(flags.dataDir ?? process.env["REFIT_DATA_DIR"] ?? defaultDataDir());
}

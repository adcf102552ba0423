// The dashboard's files, read once at the first request. They hold no data; data comes over the WebSocket.

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export interface Asset {
  readonly type: string;
  readonly body: Buffer;
  /** Content-Security-Policy of the page. */
  readonly policy: string;
}

/** The package's folder, from the source tree as well as from `dist`. */
export function packageFolder(from: string = dirname(fileURLToPath(import.meta.url))): string {
  for (let folder = from; ; folder = dirname(folder)) {
    if (existsSync(join(folder, "dashboard", "index.html"))) return folder;
    if (dirname(folder) === folder) throw new TypeError("the package lacks its dashboard folder");
  }
}

const closed = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** One self-contained page: its only script and style are allowed by their hashes. */
function inlinePolicy(html: string): string {
  const hash = (tag: string): string => {
    const content = new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`).exec(html)?.[1] ?? "";
    return `'sha256-${createHash("sha256").update(content).digest("base64")}'`;
  };
  return `${closed}; script-src ${hash("script")}; style-src ${hash("style")}; connect-src 'self'`;
}

const files = {
  "/": { name: "index.html", type: "text/html; charset=utf-8" },
  "/dashboard.js": { name: "dashboard.js", type: "text/javascript; charset=utf-8" },
  "/dashboard.css": { name: "dashboard.css", type: "text/css; charset=utf-8" },
} as const;

export type AssetPath = keyof typeof files;
export const assetPaths: readonly AssetPath[] = ["/", "/dashboard.js", "/dashboard.css"];

export interface Assets {
  readonly get: (path: AssetPath) => Promise<Asset>;
  readonly login: () => Promise<Asset>;
}

export function createAssets(folder: string = join(packageFolder(), "dashboard")): Assets {
  const read = new Map<string, Promise<Asset>>();
  const load = (name: string, type: string, policy: (body: Buffer) => string): Promise<Asset> => {
    const known = read.get(name) ?? readFile(join(folder, name)).then((body) => ({ type, body, policy: policy(body) }));
    read.set(name, known);
    return known;
  };
  return {
    get: (path) => load(files[path].name, files[path].type, () => `${closed}; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:`),
    login: () => load("login.html", "text/html; charset=utf-8", (body) => inlinePolicy(body.toString("utf8"))),
  };
}

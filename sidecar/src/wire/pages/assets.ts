// The dashboard's files, read once at the first request. They hold no data; data comes over the WebSocket.

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { packageRoot } from "../../package-root.ts";

export interface Asset {
  readonly type: string;
  readonly body: Buffer;
  /** Content-Security-Policy of the page. */
  readonly policy: string;
}

const closed = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** One self-contained page: its only script, if it has one, and its only style are allowed by their hashes. */
function inlinePolicy(html: string): string {
  const hash = (tag: string): string => {
    const content = new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`).exec(html)?.[1] ?? "";
    return `'sha256-${createHash("sha256").update(content).digest("base64")}'`;
  };
  return `${closed}; script-src ${hash("script")}; style-src ${hash("style")}; connect-src 'self'; img-src data:`;
}

const files = {
  "/": { name: "index.html", type: "text/html; charset=utf-8" },
  "/dashboard.js": { name: "dist/dashboard.js", type: "text/javascript; charset=utf-8" },
  "/dashboard.css": { name: "dist/dashboard.css", type: "text/css; charset=utf-8" },
  "/api": { name: "dist/api.html", type: "text/html; charset=utf-8" },
  "/openapi.yaml": { name: "dist/openapi.yaml", type: "application/yaml; charset=utf-8" },
  "/asyncapi.yaml": { name: "dist/asyncapi.yaml", type: "application/yaml; charset=utf-8" },
} as const;

export type AssetPath = keyof typeof files;
export const assetPaths = Object.keys(files) as readonly AssetPath[];

export interface Assets {
  readonly get: (path: AssetPath) => Promise<Asset>;
  readonly login: () => Promise<Asset>;
}

export function createAssets(folder: string = join(packageRoot, "dashboard")): Assets {
  const read = new Map<string, Promise<Asset>>();
  const load = (name: string, type: string, policy: (body: Buffer) => string): Promise<Asset> => {
    const known = read.get(name) ?? readFile(join(folder, name)).then((body) => ({ type, body, policy: policy(body) }));
    read.set(name, known);
    return known;
  };
  return {
    get: (path) =>
      load(files[path].name, files[path].type, (body) =>
        path === "/api"
          ? inlinePolicy(body.toString("utf8"))
          : `${closed}; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:`,
      ),
    login: () => load("login.html", "text/html; charset=utf-8", (body) => inlinePolicy(body.toString("utf8"))),
  };
}

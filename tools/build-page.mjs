#!/usr/bin/env node
// Bundles page/ into what the sidecar and the plugin serve: one script and one style a page, each whole in itself. Two runs on one tree give the same bytes.
// Nothing of a page comes from another server; what it is built with lies in node_modules.
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import * as protocol from "../protocol/dist/index.js";
import { asyncapi } from "./generate/asyncapi.mjs";
import { apiPage, openapi } from "./generate/openapi.mjs";
import { collectSchemas } from "./generate/schemas.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const look = (...names) => ["node_modules/uplot/dist/uPlot.min.css", ...names.map((name) => `page/src/look/${name}.css`)];
const inDashboard = "sidecar/dashboard/dist";
const inPlugin = "plugin/web/refit";

/** Works of others that end up inside a page; their licences go with a release. */
export const bundledPackages = ["preact", "uplot"];

/** What a page may weigh, script and style together, compressed as a server would. */
export const budgetBytes = 200_000;

export const bundles = [
  {
    script: "page/src/dashboard/page.tsx",
    style: look("tokens", "parts", "dashboard"),
    to: [`${inDashboard}/dashboard.js`, `${inDashboard}/dashboard.css`],
  },
  {
    script: "page/src/dashboard/standalone.tsx",
    style: look("tokens", "parts", "dashboard"),
    to: [`${inPlugin}/dashboard.mjs`, `${inPlugin}/dashboard.css`],
  },
  { script: "page/src/comfyui/page.ts", style: look("tokens", "parts", "panel"), to: [`${inPlugin}/comfyui.mjs`, `${inPlugin}/refit.css`] },
  { script: "page/src/webui/page.tsx", style: look("tokens", "parts", "panel"), to: [`${inPlugin}/webui.mjs`, `${inPlugin}/refit.css`] },
];

async function bundle({ script, style, to }) {
  const [scriptTo, styleTo] = to.map((path) => join(root, path));
  await build({
    absWorkingDir: root,
    entryPoints: [script],
    outfile: scriptTo,
    bundle: true,
    minify: true,
    format: "esm",
    // Frontends of 2025 and browsers of that age: light-dark() and container queries are there.
    target: ["chrome120", "firefox121", "safari17.5"],
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "inline",
    charset: "utf8",
    logLevel: "warning",
  });
  const styles = style.map((path) => `@import ${JSON.stringify(`./${path}`)};`).join("\n");
  await build({
    absWorkingDir: root,
    stdin: { contents: styles, loader: "css", resolveDir: root },
    outfile: styleTo,
    bundle: true,
    minify: true,
    target: ["chrome123", "firefox121", "safari17.5"],
    charset: "utf8",
    logLevel: "warning",
  });
  return {
    name: to[0],
    bytes: statSync(scriptTo).size + statSync(styleTo).size,
    gzipped: [scriptTo, styleTo].reduce((sum, file) => sum + gzipSync(readFileSync(file)).length, 0),
  };
}

export async function buildPages() {
  for (const folder of [inDashboard, inPlugin]) {
    rmSync(join(root, folder), { recursive: true, force: true });
    mkdirSync(join(root, folder), { recursive: true });
  }
  const schemas = collectSchemas(protocol);
  const documents = {
    "openapi.yaml": openapi(protocol),
    "asyncapi.yaml": asyncapi(protocol, schemas),
    "api.html": apiPage(protocol, schemas),
  };
  for (const [name, text] of Object.entries(documents)) writeFileSync(join(root, inDashboard, name), text);
  const sizes = [];
  for (const each of bundles) sizes.push(await bundle(each));
  const tooLarge = sizes.filter(({ gzipped }) => gzipped > budgetBytes);
  if (tooLarge.length > 0)
    throw new Error(
      `expected pages of at most ${budgetBytes} bytes, compressed; got ${tooLarge.map(({ name, gzipped }) => `${name} ${gzipped}`).join(", ")}`,
    );
  return sizes;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const sizes = await buildPages();
  if (!process.argv.includes("--json"))
    console.log(sizes.map(({ name, gzipped }) => `${name} ${(gzipped / 1000).toFixed(1)} KB`).join(", "));
}

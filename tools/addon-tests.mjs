// Which tests can reach the native addon: the pass without it runs those alone, the others would be the same twice. Decided from the imports of each test file, all the way down.
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
/** Modules whose values a file takes; types are gone when it runs. */
const pattern = /^(?:import|export)\s(?!type\s)[^;]*?from\s"([^"]+)"|^import\s"([^"]+)"|\bimport\("([^"]+)"\)/gm;
const imports = new Map();

function importsOf(path) {
  let found = imports.get(path);
  if (found === undefined) {
    found = existsSync(path) ? [...readFileSync(path, "utf8").matchAll(pattern)].map((match) => match[1] ?? match[2] ?? match[3]) : [];
    imports.set(path, found);
  }
  return found;
}

/** Every module that these files take values from, directly or not: paths of this repository, names of packages. */
export function reached(starts) {
  const seen = new Set();
  const waiting = [...starts];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (seen.has(path)) continue;
    seen.add(path);
    for (const module of importsOf(path)) waiting.push(module.startsWith(".") ? resolve(dirname(path), module) : module);
  }
  return seen;
}

const nativeSources = join(root, "native") + sep;
const isAddon = (module) =>
  (module.startsWith(nativeSources) && !module.endsWith("replace-file.ts")) ||
  module === "@refit-sidecar/native" ||
  module.endsWith("fallback.node");

/** The files among these whose values can come from the addon. */
export const withAddon = (files) => files.filter((file) => [...reached([resolve(root, file)])].some(isAddon));

/** Parts whose tests start processes and compare what these say; their numbers are compared in the other parts. */
export const processParts = ["cli", "host", "install", "pipeline", "selftest"];

/** All test files of the sidecar's parts, relative to the root; `apart`: those that the pass without the addon leaves out. */
export function sidecarTests() {
  const folder = join(root, "test/sidecar");
  const all = readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => /(?<!\.e2e|\.windows)\.test\.ts$/.test(name))
    .map((name) => relative(root, join(folder, name)).split(sep).join("/"));
  const inProcess = all.filter((file) => !processParts.includes(file.split("/")[2]));
  const selected = withAddon(inProcess);
  return { all, selected, apart: all.filter((file) => !selected.includes(file)) };
}

// The npm packages that the product runs with. In: the workspace's package.json files and node_modules. Out: each package once, with its folder, and its copy without what no run reads.
import { cpSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative, sep } from "node:path";

export const readJson = (path) => JSON.parse(readFileSync(path, "utf8"));

/** Node's own way of finding a package: the nearest node_modules that has it. */
function folderOf(name, from) {
  for (let folder = from; ; folder = dirname(folder)) {
    const found = join(folder, "node_modules", name);
    if (existsSync(join(found, "package.json"))) return found;
    if (folder === dirname(folder)) throw new Error(`expected the package ${name} beside ${basename(from)}; run "npm ci" first`);
  }
}

/** onnxruntime-node needs these two for its install script alone, which fetches CUDA libraries; the release runs no install script. */
const installScriptOnly = new Set(["adm-zip", "global-agent"]);

/**
 * Every package of other people that `folders` run with, sorted by name.
 * @returns {{name: string, version: string, license: string, folder: string, manifest: object}[]}
 */
export function runtimePackages(folders) {
  const found = new Map();
  const visit = (from, dependencies) => {
    for (const name of Object.keys(dependencies ?? {})) {
      if (name.startsWith("@refit-sidecar/") || installScriptOnly.has(name)) continue;
      const folder = folderOf(name, from);
      const manifest = readJson(join(folder, "package.json"));
      const known = found.get(name);
      if (known !== undefined) {
        if (known.version !== manifest.version)
          throw new Error(
            `${name} is needed in two versions (${known.version}, ${manifest.version}); the release lays each package once. Align them in package-lock.json.`,
          );
        continue;
      }
      found.set(name, { name, version: manifest.version, license: manifest.license, folder, manifest });
      visit(folder, manifest.dependencies);
    }
  };
  for (const folder of folders) visit(folder, readJson(join(folder, "package.json")).dependencies);
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Packages by their names alone, without what they need: those that a page's bundle was made from. */
export function packagesNamed(root, names) {
  return names.map((name) => {
    const folder = folderOf(name, root);
    const manifest = readJson(join(folder, "package.json"));
    return { name, version: manifest.version, license: manifest.license, folder, manifest: { ...manifest, dependencies: {} } };
  });
}

/** The part of the ONNX Runtime package for one platform. DirectML and its compilers stay out: no option of the product uses them, and their licence is not open. */
const onnxruntimeLibraries = /^(onnxruntime_binding\.node|onnxruntime\.dll|libonnxruntime\.so\.1|libonnxruntime\.1\.dylib)$/;

const unread = /\.(map|mts|cts|flow|markdown)$|(?<!\.d)\.ts$|^readme|^changelog|^history|^security\.md|^\.|^tsconfig/i;
const unreadFolders = new Set([
  "test",
  "tests",
  "example",
  "examples",
  "benchmark",
  "benchmarks",
  "docs",
  "script",
  ".github",
  "node_modules",
  "man",
]);

/** Whether a file of a package is carried; `path` is relative to the package. `platforms`: `linux-x64` and so on. */
function isCarried(name, path, platforms) {
  const parts = path.split(sep);
  const file = parts.at(-1) ?? "";
  if (parts.some((part) => unreadFolders.has(part)) || unread.test(file)) return false;
  if (name === "onnxruntime-node" && parts[0] === "bin" && parts.length === 5)
    return platforms.includes(`${parts[2]}-${parts[3]}`) && onnxruntimeLibraries.test(file);
  if (name === "onnxruntime-node" && parts[0] === "bin" && parts.length === 4) return platforms.includes(`${parts[2]}-${parts[3]}`);
  return true;
}

/** Copies one package, without its scripts: what the release carries is whole, and nothing has to run at its installation. */
export function copyPackage({ name, folder, manifest }, to, platforms) {
  cpSync(folder, to, {
    recursive: true,
    dereference: true,
    filter: (path) => path === folder || isCarried(name, relative(folder, path), platforms),
  });
  const { scripts: _scripts, devDependencies: _dev, ...kept } = manifest;
  if (kept.dependencies !== undefined)
    kept.dependencies = Object.fromEntries(Object.entries(kept.dependencies).filter(([dependency]) => !installScriptOnly.has(dependency)));
  writeFileSync(join(to, "package.json"), `${JSON.stringify(kept, null, 2)}\n`);
}

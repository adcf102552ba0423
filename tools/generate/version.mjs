// The one version number, from the root package.json, carried to every file that has to hold a copy because its reader looks at nothing else (npm, pip, ComfyUI's manager, Python at run time).
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** File → the patterns around its copies. The number stands in the second group. */
const copies = {
  "protocol/package.json": [/("version": ")([^"]+)(")/g],
  "native/package.json": [/("version": ")([^"]+)(")/g],
  "sidecar/package.json": [/("version": ")([^"]+)(")/g, /("@refit-sidecar\/[a-z]+": ")([^"]+)(")/g],
  "plugin/pyproject.toml": [/(^version = ")([^"]+)(")/gm],
  "plugin/refit_sidecar_plugin/__init__.py": [/(^__version__ = ")([^"]+)(")/gm],
  "sidecar/hosts/python/refit_host/__init__.py": [/(^__version__ = ")([^"]+)(")/gm],
};

/** In the lock file: the root, and our three packages with what they say of each other. */
function lockFile(text, version) {
  const lock = JSON.parse(text);
  lock.version = version;
  for (const part of ["", "protocol", "native", "sidecar"]) {
    const entry = lock.packages[part];
    entry.version = version;
    for (const name of Object.keys(entry.dependencies ?? {})) if (name.startsWith("@refit-sidecar/")) entry.dependencies[name] = version;
  }
  return `${JSON.stringify(lock, null, 2)}\n`;
}

/** @returns {Record<string, string>} path → content with this version */
export function versionFiles(root) {
  const read = (path) => readFileSync(join(root, path), "utf8").replaceAll("\r\n", "\n");
  const { version } = JSON.parse(read("package.json"));
  if (!/^\d+\.\d+\.\d+(-[0-9a-z.]+)?$/.test(version))
    throw new Error(`package.json: expected a version such as 1.2.3, got ${JSON.stringify(version)}`);
  const files = { "package-lock.json": lockFile(read("package-lock.json"), version) };
  for (const [path, patterns] of Object.entries(copies)) {
    const before = read(path);
    files[path] = patterns.reduce((text, pattern) => {
      if (text.match(pattern) === null) throw new Error(`${path}: expected a version number (${pattern.source}); the file lost it`);
      return text.replace(pattern, `$1${version}$3`);
    }, before);
  }
  if (!new RegExp(`^## ${version.replaceAll(".", "\\.")}\\b`, "m").test(read("CHANGELOG.md")))
    throw new Error(`CHANGELOG.md: expected a section "## ${version}"`);
  return files;
}

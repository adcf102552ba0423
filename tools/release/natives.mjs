// The addon for every platform, compiled here. In: native/binding.gyp's sources and flags, Zig, node-api-headers. Out: prebuilds/<platform>-<arch>/, where node-gyp-build looks.
// binding.gyp stays the one list of sources, definitions and instruction-set flags.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findZig } from "./zig.mjs";

/** `libc` is a tag of node-gyp-build: a musl system does not take the glibc file. Minimum versions are those that onnxruntime-node's own binaries need. */
export const targets = [
  { platform: "linux", arch: "x64", zig: "x86_64-linux-gnu.2.28", tag: "napi.glibc" },
  { platform: "linux", arch: "arm64", zig: "aarch64-linux-gnu.2.28", tag: "napi.glibc" },
  { platform: "win32", arch: "x64", zig: "x86_64-windows-gnu", tag: "napi" },
  { platform: "win32", arch: "arm64", zig: "aarch64-windows-gnu", tag: "napi" },
  { platform: "darwin", arch: "x64", zig: "x86_64-macos.12.0", tag: "napi" },
  { platform: "darwin", arch: "arm64", zig: "aarch64-macos.12.0", tag: "napi" },
];

export const fileName = ({ tag }) => `refit_native.${tag}.node`;

/** binding.gyp is JSON with comment lines. */
function readGyp(native) {
  const text = readFileSync(join(native, "binding.gyp"), "utf8");
  return JSON.parse(
    text
      .split("\n")
      .filter((line) => !line.trim().startsWith("#"))
      .join("\n"),
  );
}

const applies = (condition, arch) => condition === `target_arch=='${arch}'`;

/** Sources of one architecture, each with the flags of its own target. */
export function sourcesOf(native, arch) {
  const gyp = readGyp(native);
  const conditional = gyp.conditions.filter(([condition]) => applies(condition, arch)).flatMap(([, part]) => part.targets);
  return [...gyp.targets, ...conditional].flatMap((target) => {
    const more = (target.conditions ?? []).filter(([condition]) => applies(condition, arch)).flatMap(([, part]) => part.sources ?? []);
    return [...(target.sources ?? []), ...more].map((path) => ({
      path,
      flags: target.cflags_cc ?? [],
      defines: target.defines ?? [],
      bind: target.include_dirs !== undefined,
    }));
  });
}

const architectureDefine = { x64: "REFIT_X64", arm64: "REFIT_ARM64" };

function compileFlags(native, target, { flags, defines, bind }, headers) {
  const base = readGyp(native).target_defaults.cflags_cc;
  const includes = bind ? [`-I${headers.addon}`, `-I${headers.node}`] : [];
  return [
    "-target",
    target.zig,
    ...base,
    "-fexceptions",
    ...(target.platform === "win32" ? [] : ["-fPIC"]),
    "-g0",
    // The compiler's own stack protector and sanitizer calls are for debug builds; a path of this computer must not get into the file.
    "-fno-sanitize=undefined",
    `-ffile-prefix-map=${native}=native`,
    `-D${architectureDefine[target.arch]}`,
    ...defines.map((name) => `-D${name}`),
    "-DNDEBUG",
    ...flags,
    ...includes,
  ];
}

/** node.exe's own exports, as an import library: Windows resolves an addon's calls by the name of the program. */
function importLibrary(zig, target, headers, folder) {
  const names = ["js_native_api.def", "node_api.def"].flatMap((file) =>
    readFileSync(join(headers.definitions, file), "utf8")
      .split(/\r?\n/)
      .map((line) => line.trim())
      .filter((line) => /^napi_|^node_api_/.test(line)),
  );
  const definition = join(folder, "node.def");
  const library = join(folder, "node.lib");
  writeFileSync(definition, `NAME node.exe\nEXPORTS\n${[...new Set(names)].sort().join("\n")}\n`);
  zig(["dlltool", "-m", target.arch === "x64" ? "i386:x86-64" : "arm64", "-d", definition, "-l", library]);
  return library;
}

function linkFlags(zig, target, headers, folder) {
  switch (target.platform) {
    case "win32":
      return [importLibrary(zig, target, headers, folder)];
    case "darwin":
      // Its own name would be the temporary path of this build.
      return ["-Wl,-undefined,dynamic_lookup", "-Wl,-install_name,@loader_path/refit_native.node"];
    default:
      return ["-pthread"];
  }
}

/** Machine word of each file format, where it stands. */
const machines = {
  linux: { magic: "7f454c46", at: () => 18, x64: 0x3e, arm64: 0xb7 },
  win32: { magic: "4d5a", at: (bytes) => bytes.readUInt32LE(0x3c) + 4, x64: 0x8664, arm64: 0xaa64 },
  darwin: { magic: "cffaedfe", at: () => 4, x64: 0x0007, arm64: 0x000c },
};

/** Where a file of Windows says when it was linked. */
const linkTimeAt = (bytes) => bytes.readUInt32LE(0x3c) + 8;

/** The linker writes the present second into files of Windows; two builds would differ in it. Nothing reads it. */
function withoutLinkTime({ platform }, bytes) {
  if (platform === "win32") bytes.writeUInt32LE(0, linkTimeAt(bytes));
  return bytes;
}

/** What can be seen of an addon without running it: format, machine, Node's two doors, the N-API calls, and no path of this build. Throws with what is wrong. */
export function checkAddon({ platform, arch }, bytes, folder) {
  const { magic, at, [arch]: machine } = machines[platform];
  const name = `the addon for ${platform}-${arch}`;
  if (bytes.subarray(0, magic.length / 2).toString("hex") !== magic || bytes.readUInt16LE(at(bytes)) !== machine)
    throw new Error(`${name} is a file of another platform`);
  for (const symbol of [
    "napi_register_module_v1",
    "node_api_module_get_api_version_v1",
    "napi_create_function",
    "napi_create_async_work",
  ]) {
    if (!bytes.includes(symbol)) throw new Error(`${name} lacks ${symbol}`);
  }
  if (platform === "win32" && bytes.readUInt32LE(linkTimeAt(bytes)) !== 0) throw new Error(`${name} holds the time of this build`);
  if (folder !== undefined && bytes.includes(folder)) throw new Error(`${name} holds a path of this build`);
}

function buildOne(zig, native, target, headers, out) {
  const folder = mkdtempSync(join(tmpdir(), "refit-natives-"));
  try {
    const objects = sourcesOf(native, target.arch).map((source) => {
      const object = join(folder, `${source.path.replaceAll("/", "_")}.o`);
      zig(["c++", ...compileFlags(native, target, source, headers), "-c", join(native, source.path), "-o", object]);
      return object;
    });
    const made = join(folder, "refit_native.node");
    zig(["c++", "-target", target.zig, "-shared", "-s", ...objects, ...linkFlags(zig, target, headers, folder), "-o", made]);
    const place = join(out, `${target.platform}-${target.arch}`);
    mkdirSync(place, { recursive: true });
    const bytes = withoutLinkTime(target, readFileSync(made));
    checkAddon(target, bytes, folder);
    writeFileSync(join(place, fileName(target)), bytes);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Builds the addon for `wanted` into `out`, which gets one folder a platform. Throws with the compiler's words. */
export function buildNatives(root, out, wanted = targets, say = () => undefined) {
  const native = join(root, "native");
  const require = createRequire(join(native, "package.json"));
  const { include_dir: node, def_paths: definitions } = require("node-api-headers");
  const headers = { addon: require("node-addon-api").include_dir, node, definitions: join(definitions.node_api_def, "..") };
  const zig = findZig(root);
  for (const target of wanted) {
    const started = performance.now();
    buildOne(zig, native, target, headers, out);
    say(`native ${target.platform}-${target.arch}: ${((performance.now() - started) / 1000).toFixed(1)} s`);
  }
}

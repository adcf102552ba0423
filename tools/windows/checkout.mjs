// The checkout as a Windows computer would have it: the tracked files, the build, the packages of win32-x64 (npm --os), the cross-compiled addon.
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { filesOf, sha256 } from "../release/archive.mjs";
import { buildNatives, targets } from "../release/natives.mjs";
import { layPayload } from "../release/payload.mjs";
import { mustRun, zigVersion } from "../release/zig.mjs";

function copyTracked(root, to) {
  for (const file of mustRun("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: root }).split("\0")) {
    if (file === "" || !existsSync(join(root, file)) || file === ".venv") continue;
    mkdirSync(dirname(join(to, file)), { recursive: true });
    cpSync(join(root, file), join(to, file));
  }
}

function installPackages(root, to) {
  const stamp = join(to, "node_modules", ".windows-install");
  const lock = readFileSync(join(root, "package-lock.json"), "utf8");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === lock) return;
  mustRun("npm", ["ci", "--os=win32", "--cpu=x64", "--ignore-scripts", "--no-audit", "--no-fund"], {
    cwd: to,
    env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: "skip" },
  });
  writeFileSync(stamp, lock);
}

/** The addon is compiled anew when anything that it is made of has changed: minutes otherwise, at every run. */
function makeAddon(root, natives, say) {
  const sources = [...filesOf(join(root, "native", "src")).values(), join(root, "native", "binding.gyp")];
  sources.push(...["natives.mjs", "zig.mjs"].map((file) => join(root, "tools", "release", file)), join(root, "package-lock.json"));
  const made = sha256(Buffer.concat(sources.map((path) => readFileSync(path))));
  const stamp = join(natives, "made-of");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === made) return say(`native win32-x64: as before (Zig ${zigVersion})`);
  rmSync(natives, { recursive: true, force: true });
  const here = targets.filter(({ platform, arch }) => platform === "win32" && arch === "x64");
  buildNatives(root, natives, here, say);
  writeFileSync(stamp, made);
}

/** @returns {{checkout: string, payload: string}} folders under `cache`, up to date with `root` */
export function layWindowsCheckout(root, cache, say) {
  const [checkout, natives, payload] = ["checkout", "natives", "payload"].map((name) => join(cache, name));
  for (const part of ["protocol", "native", "sidecar", "test", "tools", "plugin"])
    rmSync(join(checkout, part), { recursive: true, force: true });
  copyTracked(root, checkout);
  installPackages(root, checkout);
  for (const part of ["protocol", "native", "sidecar"]) cpSync(join(root, part, "dist"), join(checkout, part, "dist"), { recursive: true });
  makeAddon(root, natives, say);
  cpSync(join(natives, "win32-x64"), join(checkout, "native", "prebuilds", "win32-x64"), { recursive: true });
  layPayload({ root, to: payload, natives, platforms: ["win32-x64"] });
  return { checkout, payload };
}

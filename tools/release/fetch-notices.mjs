// Licence texts that lie in other packages than the one that is carried: what is inside ONNX Runtime (its Python package lists it) and what Zig links into an addon. Kept in .cache.
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readJson } from "./bundled.mjs";
import { compilerParts } from "./notices.mjs";
import { mustRun, zigPython } from "./zig.mjs";

/** The texts that belong to the carried versions. Needs PyPI the first time. */
export function fetchNotices(root) {
  const python = zigPython(root);
  const zig = mustRun(python, ["-c", "import ziglang, os; print(os.path.dirname(ziglang.__file__))"]).trim();
  const to = join(root, ".cache", "zig-licences");
  mkdirSync(to, { recursive: true });
  for (const { path } of compilerParts) copyFileSync(join(zig, path), join(to, path.replaceAll("/", "_")));
  const { version } = readJson(join(root, "node_modules", "onnxruntime-node", "package.json"));
  const kept = join(root, ".cache", "onnxruntime-notices.txt");
  const stamp = join(root, ".cache", "onnxruntime-notices.version");
  if (existsSync(kept) && existsSync(stamp) && readFileSync(stamp, "utf8") === version) return;
  const folder = mkdtempSync(join(tmpdir(), "refit-notices-"));
  try {
    mustRun(python, [
      "-m",
      "pip",
      "download",
      "--quiet",
      "--disable-pip-version-check",
      "--no-deps",
      "--only-binary",
      ":all:",
      "--platform",
      "win_amd64",
      "--python-version",
      "3.12",
      "-d",
      folder,
      `onnxruntime==${version}`,
    ]);
    const [wheel] = readdirSync(folder);
    const text = mustRun(python, [
      "-c",
      "import sys, zipfile; sys.stdout.reconfigure(encoding='utf-8', newline=''); sys.stdout.write(zipfile.ZipFile(sys.argv[1]).read('onnxruntime/ThirdPartyNotices.txt').decode('utf-8-sig'))",
      join(folder, wheel),
    ]);
    writeFileSync(kept, text);
    writeFileSync(stamp, version);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

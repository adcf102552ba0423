// Small wheels for tests of installations, made on the spot: no network, and every failure on demand.

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative } from "node:path";

export interface Wheel {
  readonly name: string;
  readonly version: string;
  readonly requires?: readonly string[];
  /** Modules by file name. */
  readonly files?: Readonly<Record<string, string>>;
  /** Further files, so that installing takes a moment. */
  readonly padding?: number;
}

const script = `
import base64, hashlib, json, sys, zipfile
folder, wheels = sys.argv[1], json.loads(sys.argv[2])
for wheel in wheels:
    name, version = wheel["name"].replace("-", "_"), wheel["version"]
    info = f"{name}-{version}.dist-info"
    files = {name + ".py": f"version = {version!r}\\n", **wheel.get("files", {})}
    for number in range(wheel.get("padding", 0)):
        files[f"{name}_padding/part{number}.py"] = "x = 1\\n" * 50
    files[info + "/METADATA"] = "\\n".join(["Metadata-Version: 2.1", "Name: " + wheel["name"], "Version: " + version, *("Requires-Dist: " + item for item in wheel.get("requires", []))]) + "\\n"
    files[info + "/WHEEL"] = "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    record = info + "/RECORD"
    rows = []
    with zipfile.ZipFile(f"{folder}/{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows.append(f"{path},sha256={digest},{len(text)}")
        archive.writestr(record, "\\n".join([*rows, record + ",,"]) + "\\n")
`;

export function makeWheels(python: string, folder: string, wheels: readonly Wheel[]): void {
  must(python, ["-c", script, folder, JSON.stringify(wheels)]);
}

export function must(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): string {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: "utf8", env: { ...process.env, ...env } });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")} ended with ${status}:\n${stderr}`);
  return stdout;
}

/** One hash over every file's path and content below a folder. */
export function folderHash(folder: string): string {
  const hash = createHash("sha256");
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" }).toSorted()) {
    const path = join(folder, name);
    hash.update(relative(folder, path));
    if (statSync(path).isFile()) hash.update(readFileSync(path));
  }
  return hash.digest("hex");
}

// `refit-sidecar update` from one release to a newer one, with the data folder that 0.1.0 left: by npm, and by the pip of a virtual environment. No network, no registry. Minutes; runs with `npm run test:e2e -- test/release`.
import { execFileSync, spawn } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect, it } from "vitest";
import { connect, readDiscovery } from "../../sidecar/src/client/index.ts";
import { demoCheckpoint, demoLora, idOf, output, type Bench } from "../sidecar/pipeline/harness.ts";

const root = join(import.meta.dirname, "..", "..");
const folder = mkdtempSync(join(tmpdir(), "refit-update-"));
const release = join(folder, "release");
const newest = "9.9.9";
const minutes = 60_000;
const env = {
  HOME: folder,
  PATH: [dirname(process.execPath), "/usr/bin", "/bin"].join(delimiter),
  npm_config_offline: "true",
  npm_config_cache: join(folder, "npm-cache"),
  PIP_NO_INDEX: "1",
  PIP_DISABLE_PIP_VERSION_CHECK: "1",
};
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { readonly version: string };
const run = (program: string, args: readonly string[], cwd = folder) =>
  execFileSync(program, args, { cwd, env, encoding: "utf8", maxBuffer: 1 << 26 });
const last = (text: string) => JSON.parse(text.trim().split("\n").at(-1) ?? "") as Record<string, unknown>;
const made = (pattern: RegExp) => join(release, readdirSync(release).find((name) => pattern.test(name)) ?? "none");

beforeAll(() => {
  execFileSync(process.execPath, ["tools/release.mjs", "--natives", "host", "--only", "npm,wheel", "--out", release], {
    cwd: root,
    stdio: "ignore",
  });
}, 10 * minutes);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The same package under a newer version. */
function newerNpm(): string {
  const place = join(folder, "newer");
  mkdirSync(place);
  run("tar", ["-xzf", made(/\.tgz$/), "-C", place]);
  const manifest = join(place, "package", "package.json");
  writeFileSync(manifest, readFileSync(manifest, "utf8").replace(`"version": "${version}"`, `"version": "${newest}"`));
  const [packed] = JSON.parse(run("npm", ["pack", join(place, "package"), "--json"])) as [{ readonly filename: string }];
  return join(folder, packed.filename);
}

const renameWheel = `
import sys, zipfile
source, target, old, new = sys.argv[1:]
info = f"refit_sidecar-{old}.dist-info/"
with zipfile.ZipFile(source) as whole, zipfile.ZipFile(target, "w") as out:
    for name in whole.namelist():
        data = whole.read(name)
        if name in (info + "METADATA", "refit_sidecar/package/package.json"):
            data = data.replace(f"Version: {old}".encode(), f"Version: {new}".encode()).replace(f'"version": "{old}"'.encode(), f'"version": "{new}"'.encode(), 1)
        if name == info + "RECORD":
            data = data.replace(info.encode(), info.replace(old, new).encode())
        out.writestr(name.replace(info, info.replace(old, new)), data)
`;

/** The data folder of 0.1.0 with one more engine, of a format that no version reads. */
function dataOf010(name: string): string {
  const data = join(folder, name);
  cpSync(join(root, "test", "golden", "data-0.1.0"), data, { recursive: true });
  const entry = join(data, "engines", "a".repeat(64));
  mkdirSync(entry, { recursive: true });
  writeFileSync(join(entry, "manifest.json"), '{"formatVersion":99}');
  return data;
}

const deltasOf = (data: string) =>
  readdirSync(join(data, "deltas"))
    .filter((name) => name.endsWith(".delta"))
    .map((name) => [name, statSync(join(data, "deltas", name)).mtimeMs]);

/** A step with an adapter, served by the package on this data folder. Returns its output. */
async function serves(command: readonly [string, ...string[]], data: string, expected: string): Promise<Buffer> {
  const models = join(data, "..", "models");
  for (const [kind, file] of [
    ["loras", demoLora("only-sevens")],
    ["checkpoints", demoCheckpoint],
  ] as const) {
    mkdirSync(join(models, kind), { recursive: true });
    copyFileSync(file, join(models, kind, file.split(/[\\/]/).at(-1) ?? ""));
  }
  const [program, ...args] = command;
  const flags = [
    "serve",
    "--json",
    "--stop-with-stdin",
    "--data-dir",
    data,
    "--loras",
    join(models, "loras"),
    "--checkpoints",
    join(models, "checkpoints"),
  ];
  const child = spawn(program, [...args, ...flags], { env, stdio: ["pipe", "pipe", "inherit"] });
  const ended = new Promise((done) => child.once("exit", done));
  try {
    await new Promise<string>((line) => createInterface({ input: child.stdout }).once("line", line));
    const discovery = await readDiscovery(data);
    expect(discovery.version).toBe(expected);
    const client = await connect(discovery, "test");
    const bench = { client } as Bench;
    const checkpoint = await idOf(bench, "checkpoint", "demo-unet.safetensors");
    const adapter = await idOf(bench, "adapter", "only-sevens.safetensors");
    const [plain, sevens] = [await output(bench, checkpoint, []), await output(bench, checkpoint, [{ adapter, strength: 1 }])];
    expect(Buffer.compare(plain, sevens)).not.toBe(0);
    await client.close();
    return sevens;
  } finally {
    child.stdin.end();
    await ended;
  }
}

const stores = [
  { store: "catalog", kept: 1, removed: 0 },
  // That of this version stays; 0.1.0 packed the same adapter in another way, and nothing would find it again.
  { store: "deltas", kept: 1, removed: 1 },
  { store: "engines", kept: 0, removed: 1 },
  { store: "last-used", kept: 1, removed: 0 },
  { store: "hosts", kept: 0, removed: 0 },
];

it("npm: the newer package, what 0.1.0 left, a plugin that was linked", { timeout: 10 * minutes }, async () => {
  const place = join(folder, "npm");
  mkdirSync(place);
  writeFileSync(join(place, "package.json"), '{"private":true}');
  run("npm", ["install", "--no-audit", "--no-fund", made(/\.tgz$/)], place);
  const entry = join(place, "node_modules", "refit-sidecar", "bin", "refit-sidecar.mjs");
  const comfyui = join(folder, "ComfyUI");
  for (const part of ["comfy", "custom_nodes"]) mkdirSync(join(comfyui, part), { recursive: true });
  writeFileSync(join(comfyui, "main.py"), "");
  run(process.execPath, [entry, "install", "--comfyui", comfyui, "--no-packages", "--no-gpu"]);
  const data = dataOf010(join("npm", "data"));
  const before = await serves([process.execPath, entry], data, version);
  const updated = last(run(process.execPath, [entry, "update", "--from", newerNpm(), "--data-dir", data, "--json"]));
  expect(updated).toMatchObject({ ok: true, from: version, version: newest, origin: "npm", stores });
  expect(run(process.execPath, [entry, "--version"]).trim()).toBe(newest);
  expect(existsSync(join(comfyui, "custom_nodes", "refit-sidecar", "pyproject.toml"))).toBe(true);
  const deltas = deltasOf(data);
  expect(deltas).toHaveLength(1);
  expect(Buffer.compare(await serves([process.execPath, entry], data, newest), before)).toBe(0);
  expect(deltasOf(data)).toEqual(deltas);
});

it("wheel: by the pip of its own Python", { timeout: 10 * minutes }, async () => {
  const python3 = join(root, ".venv", "bin", "python");
  if (!existsSync(python3)) return console.log("skip: the test environment (.venv) is not made");
  const venv = join(folder, "venv");
  run(python3, ["-m", "venv", venv]);
  const python = join(venv, "bin", "python");
  run(python, ["-m", "pip", "install", "--quiet", "--no-deps", made(/\.whl$/)]);
  const newer = join(
    folder,
    (
      made(/\.whl$/)
        .split(/[\\/]/)
        .at(-1) ?? ""
    ).replace(`-${version}-`, `-${newest}-`),
  );
  run(python, ["-c", renameWheel, made(/\.whl$/), newer, version, newest]);
  const data = dataOf010(join("venv", "data"));
  const launcher = join(venv, "bin", "refit-sidecar");
  const before = await serves([launcher], data, version);
  const updated = last(run(launcher, ["update", "--from", newer, "--data-dir", data, "--json"]));
  expect(updated).toMatchObject({ ok: true, from: version, version: newest, origin: "wheel", stores });
  expect(run(python, ["-m", "refit_sidecar", "--version"]).trim()).toBe(newest);
  expect(run(python, ["-m", "pip", "list"])).toMatch(new RegExp(`refit-sidecar\\s+${newest}`));
  expect(Buffer.compare(await serves([launcher], data, newest), before)).toBe(0);
  run(python, ["-m", "pip", "uninstall", "--quiet", "--yes", "refit-sidecar"]);
  const left = readdirSync(join(venv, "lib"), { recursive: true, encoding: "utf8" }).filter((name) => /refit_sidecar/.test(name));
  expect(left).toEqual([]);
  expect(existsSync(launcher)).toBe(false);
});
